/** A streaming call of any kind; a server stream is one whose client sends one request. */
import type { Bytes } from "../../shared/base/bytes.ts";
import { STATUS } from "../../shared/api/errors.ts";
import { Call } from "./call.ts";
import type { StreamCall, StreamMethod, StreamReceiver } from "./service.ts";

export class StreamingCall extends Call implements StreamCall<unknown> {
  #receiver: StreamReceiver<unknown> | undefined;
  #onDrain: (() => void) | undefined;
  #requests = 0;

  /**
   * Opens the method's handler. Apart from the constructor, so that the handler may end the call
   * at once.
   */
  start(): void {
    try {
      const receiver = (this.method as StreamMethod<unknown, unknown>).open(this);
      if (this.isOver) receiver.closed();
      else this.#receiver = receiver;
    } catch (error) {
      this.failWith(error);
    }
  }

  protected override request(bytes: Buffer): void {
    this.#requests += 1;
    if (this.method.kind === "serverStream" && this.#requests > 1) {
      this.fail({ code: STATUS.internal, message: "a server stream has one request" });
      return;
    }
    const decoded = this.decode(bytes);
    if (decoded === undefined) return;
    try {
      this.#receiver?.receive(decoded.request);
    } catch (error) {
      this.failWith(error);
    }
  }

  override onEnd(): void {
    if (this.isOver) return;
    const isMissing = this.method.kind === "serverStream" && this.#requests === 0;
    if (isMissing || !this.reader.isAtBoundary) {
      this.fail({ code: STATUS.internal, message: "unexpected EOF" });
      return;
    }
    try {
      this.#receiver?.halfClose();
    } catch (error) {
      this.failWith(error);
    }
  }

  send(response: unknown): boolean {
    return !this.isOver && this.sendMessage(this.method.encode(response));
  }

  sendEncoded(bytes: Bytes): boolean {
    return this.sendMessage(bytes);
  }

  onDrain(callback: () => void): void {
    this.#onDrain = callback;
  }

  override onWritable(): void {
    try {
      this.#onDrain?.();
    } catch (error) {
      this.failWith(error);
    }
  }

  pause(): void {
    this.isPaused = true;
    this.stream.pause();
  }

  resume(): void {
    this.isPaused = false;
    this.reader.resume();
    if (!this.isPaused && !this.isOver) this.stream.resume();
  }

  end(error?: unknown): void {
    if (error === undefined) this.succeed();
    else this.failWith(error);
  }

  protected override over(): void {
    const receiver = this.#receiver;
    this.#receiver = undefined;
    this.#onDrain = undefined;
    receiver?.closed();
  }
}
