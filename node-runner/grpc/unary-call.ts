/** A unary call: one request, whole and half-closed, then one reply or an error. */
import { STATUS } from "../../shared/api/errors.ts";
import { Call } from "./call.ts";
import type { UnaryMethod } from "./service.ts";

export class UnaryCall extends Call {
  #request: Buffer | undefined;

  protected override request(bytes: Buffer): void {
    if (this.#request !== undefined) {
      this.fail({ code: STATUS.internal, message: "a unary call has one request" });
      return;
    }
    this.#request = bytes;
  }

  override onEnd(): void {
    const bytes = this.#request;
    if (this.isOver) return;
    if (bytes === undefined || !this.reader.isAtBoundary) {
      this.fail({ code: STATUS.internal, message: "unexpected EOF" });
      return;
    }
    this.#request = undefined;
    const decoded = this.decode(bytes);
    if (decoded !== undefined) this.#handle(decoded.request);
  }

  #handle(request: unknown): void {
    const method = this.method as UnaryMethod<unknown, unknown>;
    try {
      const response = method.handle(request, this);
      if (response instanceof Promise) void this.#settle(response);
      else this.#reply(response);
    } catch (error) {
      this.failWith(error);
    }
  }

  /**
   * Handlers that outlive their calls still count: a client can't start more of them by resetting
   * streams.
   */
  async #settle(response: Promise<unknown>): Promise<void> {
    this.connection.runningCalls += 1;
    try {
      this.#reply(await response);
    } catch (error) {
      this.failWith(error);
    } finally {
      this.connection.runningCalls -= 1;
    }
  }

  #reply(response: unknown): void {
    if (this.isOver) return;
    this.sendMessage(this.method.encode(response));
    this.succeed();
  }

  override onWritable(): void {
    // The reply is written once.
  }

  protected override over(): void {
    this.#request = undefined;
  }
}
