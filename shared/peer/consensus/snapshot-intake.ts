/**
 * A snapshot on its way in: its chunks go to a second store, in order, whichever stream brings them.
 * A stream that breaks leaves what came, and the next one may go on behind it.
 */
import { equalBytes } from "../../base/bytes.ts";
import type { Bytes } from "../../base/bytes.ts";
import type { ShadowBackend } from "../../backend/backend.ts";
import type { NodeId } from "../../raft/types.ts";
import type { Hasher } from "../host.ts";
import { SnapshotError } from "../state/snapshot-format.ts";
import type { SnapshotChunk, SnapshotHeader } from "../state/snapshot-format.ts";

export class SnapshotIntake {
  readonly from: NodeId;
  readonly header: SnapshotHeader;
  readonly shadow: ShadowBackend;
  readonly #hasher: Hasher;
  #chunks = 1;
  #complete = false;

  /** `first`: the chunk with the header. */
  constructor(options: {
    readonly from: NodeId;
    readonly header: SnapshotHeader;
    readonly first: Bytes;
    readonly shadow: ShadowBackend;
    readonly hasher: Hasher;
  }) {
    this.from = options.from;
    this.header = options.header;
    this.shadow = options.shadow;
    this.#hasher = options.hasher;
    this.#hasher.update(options.first);
  }

  /** How many are here, the header's among them. */
  get chunks(): number {
    return this.#chunks;
  }

  get complete(): boolean {
    return this.#complete;
  }

  /** True for the same state from the same leader: its chunks are the same, too. */
  isOf(from: NodeId, { term, index }: { readonly term: number; readonly index: number }): boolean {
    const { leaderTerm, mark } = this.header;
    return this.from === from && leaderTerm === term && mark.index === index;
  }

  /** Takes the next chunk: `bytes` as they came, `chunk` what they say. */
  take(bytes: Bytes, chunk: SnapshotChunk): void {
    if (this.#complete) throw new SnapshotError("a snapshot goes on behind its end");
    if (chunk.kind === "end") {
      if (!equalBytes(this.#hasher.digest(), chunk.hash)) {
        throw new SnapshotError("a snapshot's hash differs from its content");
      }
      this.#complete = true;
      return;
    }
    if (chunk.kind !== "rows") throw new SnapshotError("a snapshot has one header, in front");
    this.#hasher.update(bytes);
    this.#chunks += 1;
    this.shadow.apply((writer) => {
      for (const [key, value] of chunk.rows) writer.put(chunk.table, key, value);
    });
  }
}
