/**
 * Committed entries on their way into the state machine: a bounded batch at a time, held back
 * while the backend is congested or the state is being replaced. Then raft, the proposers and the
 * readers that waited are told. An entry that changes the members ends its batch: raft has to know
 * of the change before anything behind it is applied.
 */
import { assert } from "../../base/assert.ts";
import { EMPTY } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import { isJoint } from "../../raft/membership.ts";
import type { ConfChange, Entry, RaftNode } from "../../raft/types.ts";
import { CommandError, assertSpoken, commandOf } from "../../wire/command-codec.ts";
import type { Command, MemberCommand } from "../../wire/command.ts";
import type { ApplyResult, StateMachine } from "../state/state-machine.ts";
import type { Confirmations } from "./confirmations.ts";
import { raftChangeOf, type MemberChanges } from "./member-changes.ts";
import type { Proposals } from "./proposals.ts";

/** What an entry of kind membership without a command says. */
const LEAVE_JOINT: ConfChange = { steps: [], transition: "auto", context: EMPTY };

export interface ApplierParts {
  /** What this peer can read. */
  readonly version: number;
  readonly state: StateMachine;
  readonly raft: RaftNode;
  readonly proposals: Proposals;
  readonly changes: MemberChanges;
  readonly confirmations: Confirmations;
  now(): number;
  /** Something was applied; told before those who wait for it. */
  applied(): void;
  /** The members are others now. */
  membersChanged(): void;
}

export class Applier {
  readonly #parts: ApplierParts;
  /** Committed, not yet applied. */
  #queue: Entry[] = [];
  /** The index of the last queued entry that changes the members; batches look for such up to it. */
  #lastChange = 0;
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
    for (const entry of entries) {
      if (entry.kind === "membership") this.#lastChange = entry.index;
      this.#queue.push(entry);
    }
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
    this.#settleChanges();
    this.#tellRaft(index);
  }

  /** Applies what it can in one turn. */
  run(): void {
    this.#skipInstalled();
    for (let batches = 0; batches < LIMITS.applyBatchesPerTurnMax && this.canRun; batches += 1) {
      this.#apply(this.#nextBatch());
    }
  }

  #nextBatch(): readonly Entry[] {
    const queue = this.#queue;
    let count = Math.min(queue.length, LIMITS.applyEntriesMax);
    if ((queue[0] as Entry).index <= this.#lastChange) {
      const change = queue.findIndex((entry) => entry.kind === "membership");
      if (change >= 0) count = Math.min(count, change + 1);
    }
    this.#queue = count === queue.length ? [] : queue.slice(count);
    return count === queue.length ? queue : queue.slice(0, count);
  }

  /** A snapshot may have brought entries that raft hands out afterwards. */
  #skipInstalled(): void {
    const first = this.#queue[0];
    const applied = this.#parts.state.appliedIndex;
    if (this.#paused || first === undefined || first.index > applied) return;
    const known = this.#queue.filter((entry) => entry.index <= applied);
    this.#queue = this.#queue.slice(known.length);
    if (known.some((entry) => entry.kind === "membership")) this.#takeMembersOver();
    this.#tellRaft((known[known.length - 1] as Entry).index);
  }

  /** Changes that came with a snapshot: raft is told of what became of them in all. */
  #takeMembersOver(): void {
    const { raft, state } = this.#parts;
    raft.replaceMembership(state.members.membership);
    this.#settleChanges();
  }

  #settleChanges(): void {
    if (!this.#parts.state.members.isJoint) this.#parts.changes.settle();
  }

  #apply(entries: readonly Entry[]): void {
    const { state, proposals, confirmations } = this.#parts;
    const commands: (Command | undefined)[] = [];
    const sequences: number[] = [];
    for (const entry of entries) {
      sequences.push(entry.kind === "normal" ? proposals.sequenceOf(entry) : 0);
      // Own commands are read back too: what was proposed is held in the entry's bytes alone.
      commands.push(entry.data.length === 0 ? undefined : this.#read(entry));
    }
    const results = state.apply(entries, commands, this.#parts.now());
    const last = entries[entries.length - 1] as Entry;
    const lastResult = results[results.length - 1] as ApplyResult;
    if (last.kind === "membership") {
      this.#tellOfChange(commands[commands.length - 1] as MemberCommand | undefined, lastResult);
    }
    this.#tellRaft(last.index);
    // First of all: leases must be promoted before a confirmed keepalive looks at them.
    this.#parts.applied();
    for (let position = 0; position < results.length; position += 1) {
      const sequence = sequences[position] as number;
      const result = results[position];
      if (sequence > 0 && result !== undefined) proposals.settle(sequence, result);
    }
    proposals.appliedIn(last.term);
    if (last.kind === "membership") {
      if (lastResult.kind === "applied") this.#parts.membersChanged();
      this.#parts.changes.applied(last, lastResult);
      this.#settleChanges();
    }
    confirmations.appliedTo(last.index);
  }

  /** Tells raft of a change that was applied, or (no command) of the end of a joint one. */
  #tellOfChange(command: MemberCommand | undefined, result: ApplyResult): void {
    const { raft, state } = this.#parts;
    const leaves = command === undefined && isJoint(raft.status().membership);
    const ended = leaves ? LEAVE_JOINT : undefined;
    const change = command === undefined ? ended : raftChangeOf(command, result);
    const membership = raft.applyMembership(change);
    assert(isJoint(membership) === state.members.isJoint, "raft and the table agree");
  }

  /** Throws what stops the peer when a newer version wrote the entry: it may not be skipped. */
  #read(entry: Entry): Command {
    try {
      const command = commandOf(entry.data);
      assertSpoken(entry.data, command, this.#parts.version);
      return command;
    } catch (cause) {
      if (!(cause instanceof CommandError)) throw cause;
      throw new CommandError(`entry ${entry.index}: ${cause.message}`, { cause });
    }
  }

  #tellRaft(index: number): void {
    this.#raftApplied = Math.max(this.#raftApplied, index);
    this.#parts.raft.applied(index);
  }
}
