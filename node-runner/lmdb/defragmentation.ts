/**
 * Defragmentation while the backend serves. LMDB never gives pages back to the file system: the way
 * to a smaller file is a copy.
 *
 * 1. LMDB writes a compacted copy of one state into a new generation, on another thread and in a read
 *    transaction of its own. Reads, applies and commits go on in the old one.
 * 2. Every batch that is committed to the old one from then on is kept, and committed to the copy too,
 *    in the same order. Batches that the copy already has may be among them: a row's last write wins,
 *    so writing them again changes nothing.
 * 3. When few are left, or the writers are too fast for that, new batches wait for the length of one
 *    commit; then the copy has all that the old one has, and becomes the generation in use in one
 *    durable step (`generations.ts`).
 *
 * A crash before that step leaves the old generation as it was, one behind it the new one whole.
 * What is kept in memory is bounded: past `LIMITS.defragmentBytesMax` the backend is congested.
 */
import { open } from "node:fs/promises";
import type { BackendSizes } from "../../shared/backend/backend.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import { Environment } from "./environment.ts";
import type { Generations } from "./generations.ts";
import { layersHaveLonger } from "./layers.ts";
import type { Overlay } from "../../shared/backend/overlay.ts";

/** How often the copy runs after the writers before they wait. */
const ROUNDS_MAX = 5;

export interface CommittedBatch {
  readonly overlay: Overlay;
  readonly index: number;
}

/** The backend, as its defragmentation sees it. */
export interface DefragmentationOwner {
  readonly generations: Generations;
  /** The environment in use; another one: a snapshot has replaced it, or the backend is closed. */
  environment(): Environment | undefined;
  /** Resolves once no batch is under way; none begins until `switchTo` or `resumeBatches`. */
  pauseBatches(): Promise<void>;
  resumeBatches(): void;
  /** Reads and commits go to this environment from now on; it holds all that the old one held. */
  switchTo(environment: Environment, number: number): void;
}

export class Defragmentation {
  readonly #owner: DefragmentationOwner;
  readonly #source: Environment;
  #kept: CommittedBatch[] = [];
  #keptBytes = 0;

  constructor(owner: DefragmentationOwner, source: Environment) {
    this.#owner = owner;
    this.#source = source;
  }

  /** Bytes of batches that the copy doesn't have yet. */
  get keptBytes(): number {
    return this.#keptBytes;
  }

  /** A batch is in the old environment. */
  committed(batch: CommittedBatch): void {
    this.#kept.push(batch);
    this.#keptBytes += batch.overlay.bytes;
  }

  /**
   * Resolves once the copy is in use, or at once if there is nothing to do it for any more. After a
   * fault of the copy the old environment is in use as before.
   */
  async run(): Promise<void> {
    const { number, path } = this.#owner.generations.begin();
    let copy: Environment | undefined;
    try {
      await this.#source.copyTo(path);
      await syncCopy(path);
      copy = Environment.open(path);
      for (let round = 0; round < ROUNDS_MAX && this.#kept.length > 1; round += 1) {
        await this.#catchUp(copy);
      }
      await this.#owner.pauseBatches();
      await this.#catchUp(copy);
    } catch (cause) {
      await this.#discard(copy, number);
      throw cause;
    }
    if (this.#isWanted()) this.#owner.switchTo(copy, number);
    else await this.#discard(copy, number);
    this.#owner.resumeBatches();
  }

  async #discard(copy: Environment | undefined, number: number): Promise<void> {
    await copy?.close();
    this.#owner.generations.remove(number);
    this.#owner.resumeBatches();
  }

  #isWanted(): boolean {
    return this.#owner.environment() === this.#source;
  }

  /** Commits what is kept by now. */
  async #catchUp(copy: Environment): Promise<void> {
    for (let left = this.#kept.length; left > 0 && this.#isWanted();) {
      const batches = this.#takeBatches(left);
      left -= batches.length;
      const overlays = batches.map((batch) => batch.overlay);
      const { index } = batches.at(-1) as CommittedBatch;
      copy.refresh();
      const hasLonger = layersHaveLonger(overlays.toReversed(), copy);
      await copy.commit({ overlays, index, hasLonger, installs: false });
      copy.refresh();
      for (const overlay of overlays) this.#keptBytes -= overlay.bytes;
    }
  }

  /** At least one, at most `most`, as many as one synchronous stretch may write. */
  #takeBatches(most: number): readonly CommittedBatch[] {
    let [count, rows] = [0, 0];
    while (count < most && rows < LIMITS.stretchRowsMax) {
      rows += (this.#kept[count] as CommittedBatch).overlay.rows;
      count += 1;
    }
    return this.#kept.splice(0, count);
  }
}

/** The copy's bytes and its name survive a crash. Not on the main thread: it may be gigabytes. */
async function syncCopy(path: string): Promise<void> {
  for (const each of [`${path}/data.mdb`, path]) {
    const handle = await open(each, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
}

/** The size that Status and the quota see: rows that wait for their commit count too. */
export function sizesWith(committed: BackendSizes, pendingBytes: number): BackendSizes {
  const inUseBytes = committed.inUseBytes + pendingBytes;
  return { totalBytes: Math.max(committed.totalBytes, inUseBytes), inUseBytes };
}
