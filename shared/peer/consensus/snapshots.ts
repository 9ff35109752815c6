/**
 * Sending the state to members that lag behind the log, and receiving it: streamed from a pinned
 * view, a chunk a step, into a second store that replaces the first in one step once the whole of
 * it was checked.
 */
import { equalBytes } from "../../base/bytes.ts";
import type { Bytes } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import type { PinnedReader, ShadowBackend } from "../../backend/backend.ts";
import type { Message, NodeId, SnapshotMark } from "../../raft/types.ts";
import type { Hasher, Host } from "../host.ts";
import {
  decodeChunk,
  encodeEnd,
  encodeHeader,
  encodeRows,
  SnapshotError,
} from "../state/snapshot-format.ts";
import type { SnapshotHeader } from "../state/snapshot-format.ts";
import type { StateMachine } from "../state/state-machine.ts";
import type { Consensus } from "./consensus.ts";

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

export class Snapshots {
  readonly #parts: SnapshotParts;
  readonly #sending = new Set<NodeId>();
  #receiving = false;

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
    const { host, state, clusterId } = this.#parts;
    // What is sent is the state as it is now: at the mark that raft was told, or later.
    const mark = markOf(state);
    const view = state.backend.pin();
    const header: SnapshotHeader = { clusterId, leaderTerm, mark };
    const chunks = chunksOf(view, header, host, LIMITS.snapshotBytesPerSecond);
    try {
      await host.transport.sendSnapshot(to, mark, chunks);
    } finally {
      // A refusal may come while the next chunk is waited for: the view is read until that is over.
      await chunks.return();
      view.release();
    }
  }

  /** Takes a stream, installs it, and tells raft; throws when it is refused or broken. */
  async receive(from: NodeId, chunks: AsyncIterable<Bytes>): Promise<void> {
    if (this.#receiving) throw new SnapshotError("another snapshot is being received");
    this.#receiving = true;
    const shadow = this.#parts.state.backend.shadow();
    let installed = false;
    try {
      const header = await this.#fill(shadow, chunks);
      await this.#install(shadow, header, from);
      installed = true;
    } finally {
      this.#receiving = false;
      if (!installed) await shadow.discard();
    }
  }

  async #fill(shadow: ShadowBackend, chunks: AsyncIterable<Bytes>): Promise<SnapshotHeader> {
    const { host, clusterId } = this.#parts;
    const hasher = host.sha256();
    let header: SnapshotHeader | undefined;
    let complete = false;
    for await (const bytes of chunks) {
      if (complete) throw new SnapshotError("a snapshot goes on behind its end");
      const chunk = decodeChunk(bytes);
      if ((chunk.kind === "header") !== (header === undefined)) {
        throw new SnapshotError("a snapshot has one header, in front");
      }
      if (chunk.kind === "end") {
        if (!equalBytes(hasher.digest(), chunk.hash)) {
          throw new SnapshotError("a snapshot's hash differs from its content");
        }
        complete = true;
        continue;
      }
      hasher.update(bytes);
      if (chunk.kind === "header") {
        header = chunk.header;
        if (header.clusterId !== clusterId)
          throw new SnapshotError("a snapshot of another cluster");
        continue;
      }
      shadow.apply((writer) => {
        for (const [key, value] of chunk.rows) writer.put(chunk.table, key, value);
      });
      // The next chunk is asked for only then: a slow disk slows the sender down.
      while (shadow.congested) await pause(host, CONGESTION_MILLISECONDS);
    }
    if (header === undefined || !complete) throw new SnapshotError("a snapshot was cut short");
    return header;
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
