/**
 * The whole log as the core sees it: the host's durable log below, `Unstable` above, and three
 * marks on it.
 *
 *   applied <= applying <= commit <= lastIndex
 *
 * `commit`: known to be durable on a quorum. `applying`: handed out to be applied. `applied`: in
 * the state machine. What is handed out and not yet applied is bounded in bytes.
 */
import { assert } from "../base/assert.ts";
import { bytesOf } from "./memory-log.ts";
import type { Entry, LogReader, SnapshotMark } from "./types.ts";
import { Unstable } from "./unstable.ts";
import { type DurableClaim, PendingWrites } from "./pending-writes.ts";

const NO_ENTRIES: readonly Entry[] = [];

export class RaftLog {
  readonly #reader: LogReader;
  readonly #unstable: Unstable;
  readonly #writes = new PendingWrites();
  readonly #committedBytesMax: number;
  #lastIndex: number;
  #lastTerm: number;
  #commit: number;
  #applying: number;
  #applied: number;
  /** Batches handed out and not yet applied, and their bytes in all. */
  #applyBatches: { readonly lastIndex: number; readonly bytes: number }[] = [];
  #applyingBytes = 0;

  constructor(
    reader: LogReader,
    options: {
      readonly commit: number;
      readonly applied: number;
      readonly committedBytesMax: number;
    },
  ) {
    const { commit, applied, committedBytesMax } = options;
    const lastTerm = reader.termOf(reader.lastIndex);
    assert(lastTerm !== undefined, "the log knows its last entry's term");
    assert(applied <= reader.lastIndex, `applied ${applied}, log up to ${reader.lastIndex}`);
    assert(applied >= reader.firstIndex - 1, `applied ${applied}, log from ${reader.firstIndex}`);
    this.#reader = reader;
    this.#unstable = new Unstable(reader.lastIndex + 1);
    this.#committedBytesMax = committedBytesMax;
    this.#lastIndex = reader.lastIndex;
    this.#lastTerm = lastTerm;
    // A hard state is written before the entries of its batch: a crash between the two leaves a
    // commit index ahead of the log. Nobody was told of that batch, so it may be forgotten.
    this.#commit = Math.max(Math.min(commit, reader.lastIndex), applied);
    this.#applying = applied;
    this.#applied = applied;
  }

  get firstIndex(): number {
    const { snapshot } = this.#unstable;
    return snapshot === undefined ? this.#reader.firstIndex : snapshot.index + 1;
  }

  get lastIndex(): number {
    return this.#lastIndex;
  }

  get lastTerm(): number {
    return this.#lastTerm;
  }

  get commit(): number {
    return this.#commit;
  }

  get applied(): number {
    return this.#applied;
  }

  /** Entries up to here are durable on this node. */
  get durableIndex(): number {
    return this.#unstable.offset - 1;
  }

  get snapshotPending(): boolean {
    return this.#unstable.snapshot !== undefined;
  }

  /** `undefined` for what is compacted or not there yet. */
  termOf(index: number): number | undefined {
    if (index === this.#lastIndex) return this.#lastTerm;
    if (index > this.#lastIndex) return undefined;
    const term = this.#unstable.termOf(index);
    if (term !== undefined || index >= this.#unstable.offset) return term;
    return this.snapshotPending ? undefined : this.#reader.termOf(index);
  }

  matches(index: number, term: number): boolean {
    return this.termOf(index) === term;
  }

  /** Entries of [low, high): the longest run of at most `bytesMax` bytes, or one entry. */
  slice(low: number, high: number, bytesMax: number): readonly Entry[] {
    assert(this.firstIndex <= low && high <= this.#lastIndex + 1, `slice [${low}, ${high})`);
    if (low === high) return NO_ENTRIES;
    const { offset } = this.#unstable;
    if (low >= offset) return this.#unstable.slice(low, high, { bytesMax, mayBeEmpty: false });
    if (high <= offset) return this.#reader.slice(low, high, bytesMax);
    const lower = this.#reader.slice(low, offset, bytesMax);
    if (lower.length < offset - low) return lower;
    const rest = bytesMax - bytesOf(lower);
    const upper = this.#unstable.slice(offset, high, { bytesMax: rest, mayBeEmpty: true });
    return upper.length === 0 ? lower : [...lower, ...upper];
  }

  /** A snapshot that can be sent now. */
  snapshot(): SnapshotMark | undefined {
    return this.snapshotPending ? undefined : this.#reader.snapshot();
  }

  /** Adds entries after the last one (leader). */
  append(entries: readonly Entry[]): void {
    const first = entries[0];
    assert(first !== undefined && first.index === this.#lastIndex + 1, "a leader only appends");
    this.#appendFrom(entries, 0);
  }

  /**
   * Takes entries of a leader that follow an entry known to match (thesis section 3.5): those that
   * are here already stay, and a conflicting one goes with everything behind it.
   */
  merge(entries: readonly Entry[]): void {
    let position = 0;
    while (position < entries.length) {
      const entry = entries[position] as Entry;
      if (!this.matches(entry.index, entry.term)) break;
      position += 1;
    }
    if (position === entries.length) return;
    const { index } = entries[position] as Entry;
    assert(index > this.#commit, `entry ${index} conflicts with commit ${this.#commit}`);
    if (index <= this.#lastIndex) this.#writes.overwritten(index);
    this.#appendFrom(entries, position);
  }

  /** The log starts anew behind a snapshot. */
  restore(snapshot: SnapshotMark): void {
    assert(snapshot.index > this.#commit, `snapshot ${snapshot.index} below ${this.#commit}`);
    this.#writes.overwritten(1);
    this.#unstable.restore(snapshot);
    this.#lastIndex = snapshot.index;
    this.#lastTerm = snapshot.term;
    this.#commit = snapshot.index;
    this.#applying = snapshot.index;
  }

  /** True when it grew. */
  commitTo(index: number): boolean {
    if (index <= this.#commit) return false;
    assert(index <= this.#lastIndex, `commit ${index} of a log up to ${this.#lastIndex}`);
    this.#commit = index;
    return true;
  }

  /** Thesis section 3.6.1: is a log that ends so at least as up to date as this one? */
  isUpToDate(lastIndex: number, lastTerm: number): boolean {
    if (lastTerm !== this.#lastTerm) return lastTerm > this.#lastTerm;
    return lastIndex >= this.#lastIndex;
  }

  /**
   * The greatest index <= `index` whose term is at most `term`: two logs that disagree at `index`,
   * where one has `term`, can't match above. Skips whole terms at a time. 0 when nothing is known.
   */
  lastAtOrBelowTerm(index: number, term: number): number {
    let candidate = Math.min(index, this.#lastIndex);
    for (; candidate > 0; candidate -= 1) {
      const ours = this.termOf(candidate);
      if (ours === undefined || ours <= term) break;
    }
    return candidate;
  }

  get hasWrites(): boolean {
    return this.#unstable.hasWork;
  }

  takeEntries(): readonly Entry[] {
    return this.#unstable.takeEntries();
  }

  takeSnapshot(): SnapshotMark | undefined {
    return this.#unstable.takeSnapshot();
  }

  /** Books what a batch will have made durable. */
  handedOut(sequence: number, claim: DurableClaim): void {
    this.#writes.add(sequence, claim);
  }

  /** The batches up to `sequence` are durable; `undefined` when that is no news. */
  persisted(sequence: number): DurableClaim | undefined {
    const claim = this.#writes.settle(sequence);
    if (claim === undefined) return undefined;
    if (claim.snapshotIndex > 0) {
      this.#unstable.installed(claim.snapshotIndex);
      if (claim.snapshotIndex > this.#applied) this.#setApplied(claim.snapshotIndex);
    }
    this.#unstable.durableTo(claim.lastIndex);
    return claim;
  }

  get hasCommitted(): boolean {
    if (this.#commit === this.#applying || this.snapshotPending) return false;
    return this.#applyingBytes < this.#committedBytesMax;
  }

  /** The committed entries that have not been handed out yet, within the bound. */
  takeCommitted(): readonly Entry[] {
    if (!this.hasCommitted) return NO_ENTRIES;
    const budget = this.#committedBytesMax - this.#applyingBytes;
    const entries = this.slice(this.#applying + 1, this.#commit + 1, budget);
    const last = entries.at(-1);
    assert(last !== undefined && entries[0]?.index === this.#applying + 1, "committed in order");
    const bytes = bytesOf(entries);
    this.#applying = last.index;
    this.#applyingBytes += bytes;
    this.#applyBatches.push({ lastIndex: last.index, bytes });
    return entries;
  }

  /** The state machine holds all entries up to `index`. */
  appliedTo(index: number): void {
    assert(index <= this.#applying, `applied ${index}, handed out up to ${this.#applying}`);
    if (index > this.#applied) this.#setApplied(index);
  }

  #setApplied(index: number): void {
    this.#applied = index;
    let done = 0;
    for (const batch of this.#applyBatches) {
      if (batch.lastIndex > index) break;
      this.#applyingBytes -= batch.bytes;
      done += 1;
    }
    if (done > 0) this.#applyBatches = this.#applyBatches.slice(done);
    assert(this.#applyingBytes >= 0, "bytes under application");
  }

  #appendFrom(entries: readonly Entry[], from: number): void {
    const first = entries[from] as Entry;
    const last = entries.at(-1) as Entry;
    assert(first.term >= (this.termOf(first.index - 1) ?? 0), "terms never fall along the log");
    this.#unstable.append(entries, from);
    this.#lastIndex = last.index;
    this.#lastTerm = last.term;
  }
}
