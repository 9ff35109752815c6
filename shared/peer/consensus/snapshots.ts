/**
 * Sending the state to members that lag behind the log, and receiving it: streamed from a pinned
 * view, a chunk a step, into a second store that replaces the first in one step once the whole of
 * it was checked. A stream that breaks can be resumed for a while: its sender keeps the view, its
 * receiver what came; the next stream goes on behind that, if both still have it.
 */
import type { Bytes } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import type { PinnedReader, ShadowBackend } from "../../backend/backend.ts";
import type { Message, NodeId, SnapshotMark } from "../../raft/types.ts";
import type { Hasher, Host } from "../host.ts";
import {
  decodeChunk,
  encodeEnd,
  encodeHeader,
  encodeResume,
  encodeRows,
  SnapshotError,
} from "../state/snapshot-format.ts";
import type { SnapshotChunk, SnapshotHeader } from "../state/snapshot-format.ts";
import type { StateMachine } from "../state/state-machine.ts";
import type { PeerReply } from "../../wire/peer-call.ts";
import type { Consensus } from "./consensus.ts";
import { ResumableChunks } from "./resumable-chunks.ts";
import { SnapshotIntake } from "./snapshot-intake.ts";

/** The version of the cluster from which on every member knows what a broken stream left. */
const RESUME_SINCE = 2;
/** What the log says then, with the number of chunks that needn't be sent again. */
export const RESUMED = "a broken snapshot stream goes on";
/** How long that answer is waited for. */
const STAGED_MILLISECONDS = 2000;
/** How soon a congested store is looked at again. */
const CONGESTION_MILLISECONDS = 5;

export interface SnapshotParts {
  readonly host: Host;
  readonly state: StateMachine;
  readonly consensus: Consensus;
  readonly memberId: NodeId;
  readonly clusterId: bigint;
  /** The state is about to be replaced: nothing may be written until `replaced`. */
  replacing(): void;
  /** It was, or it was not: what was derived from it is stale. */
  replaced(): void;
}

/** A snapshot for one member, from its first stream until it has arrived or is given up. */
interface Outgoing {
  readonly header: SnapshotHeader;
  readonly chunks: ResumableChunks;
  readonly view: PinnedReader;
  /** Stops the clock that gives it up; undefined while a stream runs. */
  cancelExpiry: (() => void) | undefined;
}

export class Snapshots {
  readonly #parts: SnapshotParts;
  readonly #sending = new Set<NodeId>();
  /** Whose streams broke. */
  readonly #broken = new Map<NodeId, Outgoing>();
  #receiving = false;
  /** What a broken stream has left. */
  #staged: { readonly intake: SnapshotIntake; readonly cancelExpiry: () => void } | undefined;
  #stopped = false;

  constructor(parts: SnapshotParts) {
    this.#parts = parts;
  }

  /** False while as many streams run as may. */
  get canSend(): boolean {
    return this.#sending.size < LIMITS.snapshotStreamsMax;
  }

  /** Raft wants `to` to get the state; it is told of the outcome. */
  send(message: Message & { readonly type: "snapshot" }): void {
    const { to, term } = message;
    if (this.#sending.has(to)) return;
    this.#sending.add(to);
    void this.#sendAndReport(to, term);
  }

  /** How much of a broken stream of this sender is here; rejects while that isn't settled. */
  staged(
    from: NodeId,
    snapshot: { readonly term: number; readonly index: number },
  ): Promise<PeerReply> {
    if (this.#receiving) return Promise.reject(new Error("a snapshot is being received"));
    const { intake } = this.#staged ?? {};
    const chunks = intake?.isOf(from, snapshot) === true ? intake.chunks : 0;
    return Promise.resolve({ kind: "snapshotStaged", chunks });
  }

  /** Gives up what waits to be resumed. */
  async stop(): Promise<void> {
    this.#stopped = true;
    const broken = [...this.#broken.values()];
    this.#broken.clear();
    for (const outgoing of broken) await release(outgoing);
    await this.#unstage()?.shadow.discard();
  }

  async #sendAndReport(to: NodeId, leaderTerm: number): Promise<void> {
    const { host, consensus } = this.#parts;
    let outcome: "delivered" | "failed" = "delivered";
    try {
      await this.#stream(to, leaderTerm);
    } catch (error) {
      outcome = "failed";
      host.report("warn", "sending a snapshot failed", { to, error });
    }
    this.#sending.delete(to);
    consensus.with((raft) => raft.reportSnapshot(to, outcome));
  }

  async #stream(to: NodeId, leaderTerm: number): Promise<void> {
    const { host } = this.#parts;
    const kept = this.#takeBroken(to);
    let delivered = false;
    let outgoing = kept;
    try {
      const staged = kept === undefined ? 0 : await this.#stagedAt(to, kept, leaderTerm);
      if (staged === 0 && kept !== undefined) {
        outgoing = undefined;
        await release(kept);
      }
      outgoing ??= this.#begin(leaderTerm);
      const { header, chunks } = outgoing;
      if (staged > 0) host.report("info", RESUMED, { to, chunks: staged });
      await host.transport.sendSnapshot(to, header.mark, resumed(header, chunks, staged));
      delivered = true;
    } finally {
      if (outgoing !== undefined) await this.#ended(to, outgoing, delivered);
    }
  }

  #begin(leaderTerm: number): Outgoing {
    const { host, state, clusterId } = this.#parts;
    // What is sent is the state as it is now: at the mark that raft was told, or later.
    const header: SnapshotHeader = { clusterId, leaderTerm, mark: markOf(state) };
    const view = state.backend.pin();
    const source = chunksOf(view, header, host, LIMITS.snapshotBytesPerSecond);
    return { header, view, chunks: new ResumableChunks(source), cancelExpiry: undefined };
  }

  #takeBroken(to: NodeId): Outgoing | undefined {
    const outgoing = this.#broken.get(to);
    this.#broken.delete(to);
    outgoing?.cancelExpiry?.();
    return outgoing;
  }

  /** Where this snapshot can go on; 0: not at all. Throws while its receiver can't tell. */
  async #stagedAt(to: NodeId, outgoing: Outgoing, leaderTerm: number): Promise<number> {
    const { host } = this.#parts;
    const { header, chunks } = outgoing;
    const { index } = header.mark;
    // The log must go on behind it, and its receiver's raft hears of this term only.
    if (header.leaderTerm !== leaderTerm || host.log.firstIndex > index + 1) return 0;
    const call = { kind: "snapshotStaged", term: leaderTerm, index } as const;
    const reply = await host.transport.call(to, call, STAGED_MILLISECONDS);
    const staged = reply.kind === "snapshotStaged" ? reply.chunks : 0;
    return chunks.canResumeAt(staged) ? staged : 0;
  }

  /** A stream is over: what didn't arrive may be resumed for a while, if its receiver knows how. */
  async #ended(to: NodeId, outgoing: Outgoing, delivered: boolean): Promise<void> {
    const { host, state } = this.#parts;
    const mayResume = state.members.version >= RESUME_SINCE && outgoing.chunks.made > 0;
    if (delivered || this.#stopped || !mayResume) return release(outgoing);
    this.#broken.set(to, outgoing);
    outgoing.cancelExpiry = host.schedule(LIMITS.snapshotKeptMilliseconds, () => {
      if (this.#broken.get(to) !== outgoing) return;
      this.#broken.delete(to);
      void release(outgoing);
    });
  }

  /** Takes a stream, installs it, and tells raft; throws when it is refused or broken. */
  async receive(from: NodeId, chunks: AsyncIterable<Bytes>): Promise<void> {
    if (this.#receiving) throw new SnapshotError("another snapshot is being received");
    this.#receiving = true;
    let intake: SnapshotIntake | undefined;
    try {
      for await (const bytes of chunks) {
        const chunk = decodeChunk(bytes);
        if (intake === undefined) {
          intake = await this.#opened(from, bytes, chunk);
          continue;
        }
        intake.take(bytes, chunk);
        // The next chunk is asked for only then: a slow disk slows the sender down.
        while (intake.shadow.congested) await pause(this.#parts.host, CONGESTION_MILLISECONDS);
      }
      if (intake?.complete !== true) throw new Error("a snapshot was cut short");
      const { shadow, header } = intake;
      await this.#install(shadow, header, from);
    } catch (error) {
      // What was wrong with it would be wrong again; else the stream broke, and another may go on.
      const broke = !(error instanceof SnapshotError) && intake?.complete === false;
      if (intake !== undefined && broke && !this.#stopped) this.#stage(intake);
      else await intake?.shadow.discard();
      throw error;
    } finally {
      this.#receiving = false;
    }
  }

  /** The intake behind a stream's first chunk: a new one, or the one that it goes on with. */
  async #opened(from: NodeId, bytes: Bytes, chunk: SnapshotChunk): Promise<SnapshotIntake> {
    const { host, state, clusterId } = this.#parts;
    const staged = this.#unstage();
    if (chunk.kind === "resume" && staged?.isOf(from, chunk) === true) {
      if (staged.chunks === chunk.chunks) return staged;
    }
    await staged?.shadow.discard();
    if (chunk.kind === "resume")
      throw new SnapshotError("nothing here for a snapshot to go on with");
    if (chunk.kind !== "header") throw new SnapshotError("a snapshot has one header, in front");
    const { header } = chunk;
    if (header.clusterId !== clusterId) throw new SnapshotError("a snapshot of another cluster");
    const shadow = state.backend.shadow();
    return new SnapshotIntake({ from, header, first: bytes, shadow, hasher: host.sha256() });
  }

  #stage(intake: SnapshotIntake): void {
    const cancelExpiry = this.#parts.host.schedule(LIMITS.snapshotKeptMilliseconds, () => {
      if (this.#staged?.intake === intake) void this.#unstage()?.shadow.discard();
    });
    this.#staged = { intake, cancelExpiry };
  }

  #unstage(): SnapshotIntake | undefined {
    const staged = this.#staged;
    this.#staged = undefined;
    staged?.cancelExpiry();
    return staged?.intake;
  }

  /** Replaces the state, unless it has come further by itself in the meantime. */
  async #install(shadow: ShadowBackend, header: SnapshotHeader, from: NodeId): Promise<void> {
    const { consensus, state, memberId } = this.#parts;
    const { mark, leaderTerm } = header;
    consensus.pauseApplying();
    try {
      if (mark.index <= state.appliedIndex) {
        await shadow.discard();
      } else {
        this.#parts.replacing();
        let switched = false;
        const replaced = (): void => {
          switched = true;
          this.#parts.replaced();
        };
        try {
          await shadow.install(mark.index, replaced);
        } finally {
          if (!switched) replaced();
        }
      }
    } finally {
      consensus.resumeApplying();
    }
    const snapshot: Message = {
      type: "snapshot",
      from,
      to: memberId,
      term: leaderTerm,
      snapshot: mark,
    };
    consensus.with((raft) => raft.step(snapshot));
  }
}

/** The chunks of a stream that goes on behind so many that its receiver has. */
async function* resumed(
  { leaderTerm, mark }: SnapshotHeader,
  chunks: ResumableChunks,
  staged: number,
): AsyncGenerator<Bytes, void, undefined> {
  if (staged > 0) yield encodeResume({ term: leaderTerm, index: mark.index, chunks: staged });
  yield* chunks.from(staged);
}

/** A refusal may come while the next chunk is made: the view is read until that is over. */
async function release({ chunks, view }: Outgoing): Promise<void> {
  await chunks.end();
  view.release();
}

/** The state as it is now, as raft names it; undefined before the first entry. */
export function markOf(state: StateMachine): SnapshotMark {
  return {
    index: state.appliedIndex,
    term: state.appliedTerm,
    membership: state.members.membership,
  };
}

/**
 * The chunks of a snapshot, made as they are pulled, and not faster than so many bytes a second: the
 * sender serves its clients meanwhile.
 */
export async function* chunksOf(
  view: PinnedReader,
  header: SnapshotHeader,
  host: Pick<Host, "now" | "schedule" | "defer" | "sha256">,
  bytesPerSecond = Number.POSITIVE_INFINITY,
): AsyncGenerator<Bytes, void, undefined> {
  const hasher: Hasher = host.sha256();
  let due = host.now();
  const first = encodeHeader(header);
  hasher.update(first);
  yield first;
  for (const chunk of encodeRows(view)) {
    hasher.update(chunk);
    yield chunk;
    // Time that the receiver took counts; what it took too long isn't made up for.
    due = Math.max(due + (chunk.length * 1000) / bytesPerSecond, host.now());
    await pause(host, due - host.now());
  }
  yield encodeEnd(hasher.digest());
}

/** At least until what has arrived by now was handled. */
function pause(host: Pick<Host, "schedule" | "defer">, milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    if (milliseconds < 1) host.defer(resolve);
    else host.schedule(milliseconds, resolve);
  });
}
