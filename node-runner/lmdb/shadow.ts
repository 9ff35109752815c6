/**
 * A second environment that a received snapshot fills. Rows gather in an overlay and are committed
 * in batches; `apply` doesn't wait for them, so a sender that outruns the disk grows the queue:
 * `congested` tells it to wait.
 */
import { assert, assertCount } from "../../shared/base/assert.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import type { BatchWriter, ShadowBackend } from "../../shared/backend/backend.ts";
import type { Environment } from "./environment.ts";
import { layersHaveLonger } from "./layers.ts";
import { Overlay } from "../../shared/backend/overlay.ts";

export interface ShadowOwner {
  /** Switches to the environment, whose content is durable. */
  install(environment: Environment, index: number): void;
  /** Removes the files of the environment, which is closed. */
  discard(): void;
}

export class LmdbShadow implements ShadowBackend {
  readonly #environment: Environment;
  readonly #owner: ShadowOwner;
  #overlay = new Overlay();
  /** Batches under way, in order. */
  #commits: Promise<void> = Promise.resolve();
  #pendingBytes = 0;
  #fault: unknown;
  #open = true;

  constructor(environment: Environment, owner: ShadowOwner) {
    this.#environment = environment;
    this.#owner = owner;
  }

  /** True while more rows wait for the disk than should. */
  get congested(): boolean {
    return this.#pendingBytes > LIMITS.backendPendingBytesMax;
  }

  apply(fill: (writer: BatchWriter) => void): void {
    assert(this.#open, "the shadow is gone");
    fill(this.#overlay);
    if (this.#overlay.rows >= LIMITS.backendBatchRowsMax) this.#commit(0);
    else if (this.#overlay.bytes >= LIMITS.stretchBytesMax) this.#commit(0);
  }

  async install(index: number, switched?: () => void): Promise<void> {
    assert(this.#open, "the shadow is gone");
    assertCount(index, "index");
    this.#open = false;
    this.#commit(index);
    await this.#commits;
    if (this.#fault !== undefined) throw this.#fault;
    this.#owner.install(this.#environment, index);
    switched?.();
  }

  async discard(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await this.#commits;
    await this.#environment.close();
    this.#owner.discard();
  }

  /**
   * Rows of earlier batches must be readable when a later one deletes long keys: batches go one
   * after the other.
   */
  #commit(index: number): void {
    const overlay = this.#overlay;
    this.#overlay = new Overlay();
    this.#pendingBytes += overlay.bytes;
    this.#commits = this.#commits.then(async () => {
      if (this.#fault !== undefined) return;
      try {
        this.#environment.refresh();
        const hasLonger = layersHaveLonger([overlay], this.#environment);
        const overlays = [overlay];
        await this.#environment.commit({ overlays, index, hasLonger, installs: index !== 0 });
      } catch (cause) {
        this.#fault = cause;
      }
      this.#pendingBytes -= overlay.bytes;
    });
  }
}
