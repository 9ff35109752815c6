/** The responses of one streaming call, queued in order until the test asks for them. */
import type { RpcError } from "../../shared/api/errors.ts";
import type { Responses } from "./rpc-channel.ts";

/** How long `next` waits: far above any answer of a healthy server on a slow machine, below a test's time limit. */
const NEXT_MILLISECONDS = 30_000;

export class Inbox<Output> implements Responses<Output> {
  readonly #abort: () => void;
  readonly #queue: Output[] = [];
  #ended = false;
  #error: RpcError | undefined;
  #wake: (() => void) | undefined;

  constructor(abort: () => void) {
    this.#abort = abort;
  }

  push(message: Output): void {
    this.#queue.push(message);
    this.#wake?.();
  }

  /** Called once or more at the end of the call; the first error wins over a later clean end. */
  close(error: RpcError | undefined): void {
    this.#ended = true;
    this.#error ??= error;
    this.#wake?.();
  }

  async next(milliseconds = NEXT_MILLISECONDS): Promise<Output> {
    await this.#until(() => this.#queue.length > 0 || this.#ended, milliseconds);
    const message = this.#queue.shift();
    if (message !== undefined) return message;
    if (this.#error !== undefined) throw this.#error;
    throw new Error(this.#ended ? "the stream has ended" : `no response in ${milliseconds} ms`);
  }

  async quiet(milliseconds: number): Promise<void> {
    await this.#until(() => this.#queue.length > 0 || this.#ended, milliseconds);
    const message = this.#queue[0];
    if (message !== undefined) throw new Error(`unexpected response: ${describe(message)}`);
    if (this.#ended) throw this.#error ?? new Error("the stream has ended");
  }

  async all(): Promise<Output[]> {
    const error = await this.end();
    if (error !== undefined) throw error;
    return this.#queue.splice(0);
  }

  async end(milliseconds = NEXT_MILLISECONDS): Promise<RpcError | undefined> {
    await this.#until(() => this.#ended, milliseconds);
    if (!this.#ended) throw new Error(`the stream goes on after ${milliseconds} ms`);
    return this.#error;
  }

  cancel(): void {
    this.#abort();
  }

  async #until(done: () => boolean, milliseconds: number): Promise<void> {
    const limit = performance.now() + milliseconds;
    while (!done()) {
      const left = limit - performance.now();
      if (left <= 0) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = undefined;
    }
  }
}

function describe(message: unknown): string {
  return JSON.stringify(message, (_, value: unknown) =>
    typeof value === "bigint" ? value.toString() : value,
  );
}
