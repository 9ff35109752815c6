/**
 * The replicated state machine: key-values, leases, members and alarms over one backend, changed
 * by log entries alone and alike on every peer. A batch of entries is one `Backend.apply`, with
 * the applied index (the backend's own) and the applied term in it: after a crash the backend is
 * as it was after some batch, and the log is replayed from there.
 */
import { assert } from "../../base/assert.ts";
import type { Backend, BatchWriter } from "../../backend/backend.ts";
import type { Lessor } from "../../lease/lessor.ts";
import type { MvccStore } from "../../mvcc/store.ts";
import type { RevisionEvents } from "../../mvcc/types.ts";
import type { Entry } from "../../raft/types.ts";
import { writeIdentityOf } from "../../wire/command-codec.ts";
import type { Command, Op, TxnOp } from "../../wire/command.ts";
import type { OpResult } from "../services.ts";
import { applyDeleteRange, applyPut, applyTxn, refused } from "./apply-operations.ts";
import type { ApplyResult, Refused, WriteContext } from "./apply-operations.ts";
import { MemberTable } from "./member-table.ts";
import { OperationCounts } from "./operation-counts.ts";
import { decodeOutcome, encodeOutcome } from "./outcome-codec.ts";
import { WriteTable } from "./write-table.ts";
import type { WriteTableBounds } from "./write-table.ts";

export type { ApplyResult } from "./apply-operations.ts";

export interface StateParts {
  readonly backend: Backend;
  readonly store: MvccStore;
  readonly lessor: Lessor;
  /** Smaller bounds than every peer's, for tests. */
  readonly writeBounds?: WriteTableBounds;
}

export class StateMachine {
  readonly backend: Backend;
  readonly store: MvccStore;
  readonly lessor: Lessor;
  readonly members: MemberTable;
  readonly counts = new OperationCounts();
  readonly writes: WriteTable;
  /**
   * Grows when the state is replaced by a snapshot: what was read before doesn't go together with
   * what is read after.
   */
  generation = 0;

  constructor(parts: StateParts) {
    this.backend = parts.backend;
    this.store = parts.store;
    this.lessor = parts.lessor;
    this.members = new MemberTable(parts.backend);
    this.writes = new WriteTable(parts.backend, parts.writeBounds);
  }

  get appliedIndex(): number {
    return this.backend.visibleIndex;
  }

  get appliedTerm(): number {
    return this.members.appliedTerm;
  }

  /** Everything anew from the backend: after a snapshot was installed. */
  reload(now: number): void {
    this.generation += 1;
    this.members.load(this.backend);
    this.writes.load(this.backend);
    this.store.reload();
    this.lessor.reload(now);
  }

  /**
   * Applies entries that follow the applied index without a gap. `commands[i]` is what
   * `entries[i]` carries; undefined for a new leader's empty entry, and for one of kind membership,
   * which ends a joint change. Watchers are told once all of it is visible. One result per entry.
   */
  apply(
    entries: readonly Entry[],
    commands: readonly (Command | undefined)[],
    now: number,
  ): ApplyResult[] {
    assert(entries.length === commands.length && entries.length > 0, "a command for each entry");
    const results: ApplyResult[] = [];
    const events: RevisionEvents[] = [];
    const last = entries[entries.length - 1] as Entry;
    let expected = this.appliedIndex;
    this.backend.apply(last.index, (writer) => {
      for (let position = 0; position < entries.length; position += 1) {
        const entry = entries[position] as Entry;
        expected += 1;
        assert(entry.index === expected, `entry ${entry.index} where ${expected} is due`);
        const command = commands[position];
        if (command === undefined && entry.kind === "membership") this.members.leaveJoint(writer);
        const result =
          command === undefined
            ? this.#done()
            : this.#applyOnce(command, entry, { writer, now, events });
        results.push(result);
      }
      this.members.setTerm(last.term, writer);
      this.store.finishBatch(writer);
    });
    if (events.length > 0) this.store.watches.notify(events);
    return results;
  }

  #done(result?: OpResult): ApplyResult {
    return { kind: "applied", revision: this.store.revision, result };
  }

  /** A write that carries an identity is applied the first time; later it has the same outcome. */
  #applyOnce(command: Command, entry: Entry, batch: BatchContext): ApplyResult {
    const identity = writeIdentityOf(entry.data);
    if (identity === undefined) return this.#applyCommand(command, entry.term, batch);
    const memory = this.writes.recall(identity);
    if (memory.kind === "forgotten") return refused("writeForgotten");
    if (memory.kind === "known") return decodeOutcome(memory.outcome);
    const result = this.#applyCommand(command, entry.term, batch);
    const applied = { index: entry.index, outcome: encodeOutcome(result) };
    this.writes.remember(identity, applied, batch.writer);
    return result;
  }

  #applyCommand(command: Command, term: number, batch: BatchContext): ApplyResult {
    const blocked = this.#alarmAgainst(command);
    if (blocked !== undefined) return blocked;
    const { writer } = batch;
    switch (command.kind) {
      case "put":
        return this.#write(batch, (context) => applyPut(command, context));
      case "deleteRange":
        return this.#write(batch, (context) => applyDeleteRange(command, context));
      case "txn":
        return this.#write(batch, (context) => applyTxn(command, this.store, context));
      case "compact": {
        const refusal = this.store.compact(command.revision, writer);
        return refusal === undefined ? this.#done() : refused(refusal.code);
      }
      case "leaseGrant": {
        const { id, ttlSeconds } = command;
        const refusal = this.lessor.grant({ id, ttlSeconds }, writer, batch.now);
        return refusal === undefined ? this.#done() : refused(refusal.code);
      }
      case "leaseRevoke":
        return this.#revoke(command.ids, command.term, { ...batch, entryTerm: term });
      case "alarm": {
        const { member, alarm, action } = command;
        this.members.setAlarm({ member, alarm }, action === "activate", writer);
        return this.#done();
      }
      case "memberAttributes":
        this.members.setAttributes(command.member, command, writer);
        return this.#done();
      case "memberAdd":
      case "memberRemove":
      case "memberPromote":
      case "memberUpdate":
      case "memberChange":
        return this.members.change(command, writer) ?? this.#done();
      default:
        this.members.setVersion(Number(command.version), writer);
        return this.#done();
    }
  }

  /** Runs one write at the next revision; a refusal must have changed nothing. */
  #write(batch: BatchContext, run: (context: WriteContext) => OpResult | Refused): ApplyResult {
    const txn = this.store.begin(batch.writer);
    const { counts, lessor } = this;
    const before = counts.operations;
    const result = run({ txn, lessor, writer: batch.writer, counts });
    counts.transaction(counts.operations - before);
    assert(result.kind !== "refused" || !txn.changed, "a refused write has no effect");
    const events = txn.end();
    if (events !== undefined) batch.events.push(events);
    return result.kind === "refused" ? result : this.#done(result);
  }

  /** An expiry that was decided in another term is void: the lease may have been renewed since. */
  #revoke(
    ids: readonly bigint[],
    decidedIn: number | undefined,
    batch: BatchContext & { readonly entryTerm: number },
  ): ApplyResult {
    if (decidedIn !== undefined && decidedIn !== batch.entryTerm) return this.#done();
    for (const id of ids) {
      const keys = this.lessor.revoke(id, batch.writer);
      if ("code" in keys) {
        if (decidedIn === undefined) return refused(keys.code);
        continue; // Revoked by its client in the meantime.
      }
      if (keys.length === 0) continue;
      const txn = this.store.begin(batch.writer);
      for (const key of keys) txn.delete(key);
      this.counts.deletes += keys.length;
      this.counts.transaction(keys.length);
      const events = txn.end();
      if (events !== undefined) batch.events.push(events);
    }
    return this.#done();
  }

  #alarmAgainst(command: Command): Refused | undefined {
    if (this.members.alarms.length === 0) return undefined;
    const { kind } = command;
    const writes = kind === "put" || kind === "deleteRange" || kind === "txn";
    const leases = kind === "leaseGrant" || (kind === "leaseRevoke" && command.term === undefined);
    if (this.members.hasAlarm("corrupt") && (writes || leases || kind === "compact")) {
      return refused("corrupt");
    }
    const grows = kind === "put" || kind === "leaseGrant" || (kind === "txn" && hasPut(command));
    return grows && this.members.hasAlarm("nospace") ? refused("noSpace") : undefined;
  }
}

interface BatchContext {
  readonly writer: BatchWriter;
  readonly now: number;
  readonly events: RevisionEvents[];
}

/** True if either branch, at any depth, can put. */
function hasPut(txn: TxnOp): boolean {
  const puts = (op: Op): boolean => op.kind === "put" || (op.kind === "txn" && hasPut(op));
  return txn.success.some(puts) || txn.failure.some(puts);
}
