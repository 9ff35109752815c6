/** A WebSocket without a network: the client's end of a link to a member of the same process. */
import type { Bytes } from "../base/bytes.ts";
import type { SocketLike } from "../client/platform.ts";
import type { LinkPort, LinkSession } from "../peer/link-service.ts";
import { defer } from "./turn.ts";

interface SocketEvent {
  data?: unknown;
  code?: number;
  reason?: string;
  message?: string;
}

/** Opens the member's side of a link; undefined: nobody listens. */
export type Accept = (port: LinkPort) => LinkSession | undefined;

export class MemorySocket implements SocketLike {
  binaryType = "blob";
  readonly #listeners = new Map<string, ((event: SocketEvent) => void)[]>();
  readonly #closed: () => void;
  #session: LinkSession | undefined;
  #open = true;

  /** `closed` is told once, when the link has ended. */
  constructor(accept: Accept, closed: () => void) {
    this.#closed = closed;
    defer(() => this.#connect(accept));
  }

  addEventListener(type: string, listener: (event: SocketEvent) => void): void {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
  }

  send(data: Bytes): void {
    const batch = data.slice();
    defer(() => {
      if (this.#open) this.#session?.receive(batch);
    });
  }

  close(): void {
    this.#end();
  }

  /** The connection breaks, for both ends. */
  cut(): void {
    if (this.#open) this.#ended({ code: 1006 });
  }

  #connect(accept: Accept): void {
    if (!this.#open) return;
    this.#session = accept({
      send: (batch) => {
        const data = batch.slice().buffer;
        defer(() => {
          if (this.#open) this.#emit("message", { data });
        });
        return true;
      },
      close: (code, reason) => defer(() => this.#ended({ code, reason })),
      defer,
    });
    if (this.#session === undefined) {
      this.#end();
      this.#emit("error", { message: "connection refused" });
      return;
    }
    this.#emit("open", {});
  }

  #ended(event: SocketEvent): void {
    if (!this.#open) return;
    this.#end();
    this.#emit("close", event);
  }

  #end(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#session?.closed();
    this.#closed();
  }

  #emit(type: string, event: SocketEvent): void {
    for (const listener of this.#listeners.get(type) ?? []) listener(event);
  }
}
