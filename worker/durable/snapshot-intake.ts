/** A snapshot's chunks from calls into the stream that the peer reads, one at a time. */
import type { Bytes } from "../../shared/base/bytes.ts";

export class SnapshotIntake {
  readonly #installed: Promise<void>;
  #next = Promise.withResolvers<IteratorResult<Bytes, void>>();
  #asked = Promise.withResolvers<void>();

  /** `install` reads the chunks and resolves once they are installed. */
  constructor(install: (chunks: AsyncIterable<Bytes>) => Promise<void>) {
    this.#installed = install(this.#chunks());
    // Whoever gives the next chunk, or the end, hears of it.
    this.#installed.catch(() => {});
  }

  /** Resolves once the chunk is wanted and given; rejects when the snapshot was refused. */
  async take(bytes: Bytes): Promise<void> {
    await this.#give({ done: false, value: bytes });
  }

  async finish(): Promise<void> {
    await this.#give({ done: true, value: undefined });
    await this.#installed;
  }

  /** The stream breaks. */
  cut(reason: string): void {
    this.#next.reject(new Error(reason));
    this.#next.promise.catch(() => {});
  }

  async #give(result: IteratorResult<Bytes, void>): Promise<void> {
    const over = this.#installed.then(() => {
      if (result.done !== true) throw new Error("the snapshot was installed before its end");
    });
    await Promise.race([this.#asked.promise, over]);
    const { resolve } = this.#next;
    this.#next = Promise.withResolvers();
    this.#asked = Promise.withResolvers();
    resolve(result);
  }

  async *#chunks(): AsyncGenerator<Bytes, void, undefined> {
    for (;;) {
      const { promise } = this.#next;
      this.#asked.resolve();
      const result = await promise;
      if (result.done === true) return;
      yield result.value;
    }
  }
}
