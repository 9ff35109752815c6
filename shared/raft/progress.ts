/**
 * The leader's view of one member's log (etcd-io/raft: Progress).
 *
 *   probe      nothing is known for sure: one append at a time, until it is answered
 *   replicate  the logs match up to `match`: appends are sent ahead, within a window
 *   snapshot   a snapshot is on its way: no appends until it arrived or failed
 *
 * Invariant: 0 <= match < next, and everything in [match + 1, next) is under way.
 */
import { assert } from "../base/assert.ts";
import type { Inflights } from "./inflights.ts";
import type { NodeId } from "./types.ts";

export class Progress {
  readonly id: NodeId;
  readonly inflights: Inflights;
  learner = false;
  state: "probe" | "replicate" | "snapshot" = "probe";
  /** The last index that is known to be durable there and to match. */
  match = 0;
  /** The first index that the next append carries. */
  next: number;
  /** The index of the snapshot that is on its way; 0 unless in state `snapshot`. */
  pendingSnapshot = 0;
  /** Only a snapshot can go to this member next: it joins, and knows no members yet. */
  snapshotWanted = false;
  /** Heard from since the last quorum check. */
  recentlyActive = false;
  /** Probing: the probe is out, and only an answer or a heartbeat's answer lets the next go. */
  paused = false;
  /** An append is due even if it carries neither entries nor news of the commit. */
  nudged = false;
  /** Newest read round that this member has answered (thesis section 6.4). */
  round = 0;
  /** Until then, by the leader's clock, it grants nobody a vote (`leader-lease.ts`). */
  leasedUntil = 0;
  /** The greatest commit index that an append has told it. */
  #sentCommit = 0;
  /** `match` at the last heartbeat tick: unchanged while entries are under way means a loss. */
  #matchAtTick = 0;
  /** True when entries were under way at the last heartbeat and none was acknowledged since. */
  #stalled = false;

  constructor(id: NodeId, next: number, inflights: Inflights) {
    this.id = id;
    this.next = next;
    this.inflights = inflights;
  }

  /** Starts anew at the begin of a leader's term. */
  reset(next: number, match: number): void {
    assert(match < next, `match ${match}, next ${next}`);
    this.match = match;
    this.next = next;
    this.recentlyActive = false;
    this.round = 0;
    this.leasedUntil = 0;
    this.#sentCommit = 0;
    this.#matchAtTick = match;
    this.#enter("probe");
  }

  becomeProbe(): void {
    // After a snapshot, probing starts behind it: it may have arrived although nobody said so.
    const next = this.state === "snapshot" ? this.pendingSnapshot + 1 : this.match + 1;
    this.next = Math.max(this.match + 1, next);
    if (this.#sentCommit >= this.next) this.#sentCommit = this.next - 1;
    this.#enter("probe");
  }

  becomeReplicate(): void {
    this.next = this.match + 1;
    this.#enter("replicate");
  }

  becomeSnapshot(index: number): void {
    assert(index > this.match, `snapshot ${index} for a member that has ${this.match}`);
    this.#enter("snapshot");
    this.pendingSnapshot = index;
    this.next = index + 1;
  }

  /** An accepted append: false when it tells nothing new. */
  accepted(index: number): boolean {
    if (index >= this.next) this.next = index + 1;
    if (index <= this.match) return false;
    this.match = index;
    this.paused = false;
    return true;
  }

  /**
   * A rejected append after `previousIndex`; `retryAt` is the previous index to try next. False for
   * a stale answer, one that the current state contradicts.
   */
  rejected(previousIndex: number, retryAt: number): boolean {
    if (this.state === "replicate") {
      if (previousIndex <= this.match) return false;
      this.becomeProbe();
      return true;
    }
    if (this.state === "snapshot" || this.next - 1 !== previousIndex) return false;
    this.next = Math.max(Math.min(previousIndex, retryAt + 1), this.match + 1);
    this.paused = false;
    return true;
  }

  /** It takes no entries before it has a snapshot (see follower.ts). False when that is stale. */
  rejectedAll(): boolean {
    if (this.match > 0 || this.state === "snapshot") return false;
    this.#enter("probe");
    this.snapshotWanted = true;
    return true;
  }

  /** True when an append should go out now. */
  wantsAppend(lastIndex: number, commit: number): boolean {
    if (this.state === "snapshot") return false;
    if (this.state === "probe") return !this.paused;
    if (this.nudged || (this.next <= lastIndex && !this.inflights.full)) return true;
    return this.#sentCommit < Math.min(commit, this.next - 1);
  }

  /** Books an append that carries `count` entries after `next - 1`, and this commit index. */
  sentAppend(sent: {
    readonly count: number;
    readonly bytes: number;
    readonly commit: number;
  }): void {
    assert(this.state !== "snapshot", "an append beside a snapshot");
    this.nudged = false;
    if (this.state === "probe") {
      this.paused = true;
    } else if (sent.count > 0) {
      this.next += sent.count;
      this.inflights.add(this.next - 1, sent.bytes);
    }
    this.#sentCommit = Math.max(this.#sentCommit, Math.min(sent.commit, this.next - 1));
  }

  /** A heartbeat's answer: the member is reachable, so what was lost can be found out now. */
  heartbeatAnswered(): void {
    this.recentlyActive = true;
    this.paused = false;
    if (this.state === "replicate" && this.#stalled) this.nudged = true;
  }

  heartbeatTicked(): void {
    this.#stalled = this.match === this.#matchAtTick && this.match + 1 < this.next;
    this.#matchAtTick = this.match;
  }

  #enter(state: "probe" | "replicate" | "snapshot"): void {
    this.state = state;
    this.paused = false;
    this.nudged = false;
    this.pendingSnapshot = 0;
    this.snapshotWanted = false;
    this.inflights.clear();
  }
}
