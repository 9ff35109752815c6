/**
 * Committed entries on their way into the state machine: a bounded batch at a time, held back
 * while the backend is congested or the state is being replaced. Then raft, the proposers and the
 * readers that waited are told.
 */
import { assert } from "../../base/assert.ts";
import { LIMITS } from "../../base/limits.ts";
import type { Entry, RaftNode } from "../../raft/types.ts";
import { commandOf } from "../../wire/command-codec.ts";
import type { Command } from "../../wire/command.ts";
import type { StateMachine } from "../state/state-machine.ts";
import type { Confirmations } from "./confirmations.ts";
import type { Proposals } from "./proposals.ts";

export interface ApplierParts {
  readonly state: StateMachine;
  readonly raft: RaftNode;
  readonly proposals: Proposals;
  readonly confirmations: Confirmations;
  now(): number;
  /** Something was applied; told before those who wait for it. */
  applied(): void;
}

export class Applier {
  readonly #parts: ApplierParts;
  /** Committed, not yet applied. */
  #queue: Entry[] = [];
  #paused = false;
  /**
   * As raft was told: behind the state's own index while raft hasn't heard of an installed
   * snapshot.
   */
  #raftApplied: number;

  constructor(parts: ApplierParts) {
    this.#parts = parts;
    this.#raftApplied = parts.state.appliedIndex;
  }

  get waitingCount(): number {
    return this.#queue.length;
  }

  get raftApplied(): number {
    return this.#raftApplied;
  }

  get congested(): boolean {
    return this.#queue.length > 0 && this.#parts.state.backend.congested;
  }

  /** `run` has something to do. */
  get canRun(): boolean {
    return this.#queue.length > 0 && !this.#paused && !this.#parts.state.backend.congested;
  }

  push(entries: readonly Entry[]): void {
    for (const entry of entries) this.#queue.push(entry);
  }

  /** While the state is replaced. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
  }

  /** Raft's log starts anew behind a snapshot that was installed before. */
  snapshotTaken(index: number): void {
    const { appliedIndex } = this.#parts.state;
    assert(index <= appliedIndex, "a snapshot is installed before raft hears of it");
    this.#tellRaft(index);
  }

  /** Applies what it can in one turn. */
  run(): void {
    this.#skipInstalled();
    for (let batches = 0; batches < LIMITS.applyBatchesPerTurnMax && this.canRun; batches += 1) {
      const whole = this.#queue.length <= LIMITS.applyEntriesMax;
      const entries = whole ? this.#queue : this.#queue.slice(0, LIMITS.applyEntriesMax);
      this.#queue = whole ? [] : this.#queue.slice(LIMITS.applyEntriesMax);
      this.#apply(entries);
    }
  }

  /** A snapshot may have brought entries that raft hands out afterwards. */
  #skipInstalled(): void {
    const first = this.#queue[0];
    const applied = this.#parts.state.appliedIndex;
    if (this.#paused || first === undefined || first.index > applied) return;
    const known = this.#queue.filter((entry) => entry.index <= applied);
    this.#queue = this.#queue.slice(known.length);
    this.#tellRaft((known[known.length - 1] as Entry).index);
  }

  #apply(entries: readonly Entry[]): void {
    const { state, proposals, confirmations } = this.#parts;
    const commands: (Command | undefined)[] = [];
    const sequences: number[] = [];
    for (const entry of entries) {
      assert(entry.kind === "normal", "membership changes come with a later version");
      sequences.push(proposals.sequenceOf(entry));
      // Own commands are read back too: what was proposed is held in the entry's bytes alone.
      commands.push(entry.data.length === 0 ? undefined : commandOf(entry.data));
    }
    const results = state.apply(entries, commands, this.#parts.now());
    const last = entries[entries.length - 1] as Entry;
    this.#tellRaft(last.index);
    // First of all: leases must be promoted before a confirmed keepalive looks at them.
    this.#parts.applied();
    for (let position = 0; position < results.length; position += 1) {
      const sequence = sequences[position] as number;
      const result = results[position];
      if (sequence > 0 && result !== undefined) proposals.settle(sequence, result);
    }
    proposals.appliedIn(last.term);
    confirmations.appliedTo(last.index);
  }

  #tellRaft(index: number): void {
    this.#raftApplied = Math.max(this.#raftApplied, index);
    this.#parts.raft.applied(index);
  }
}
