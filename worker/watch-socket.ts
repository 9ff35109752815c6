/**
 * A watch's feed into a WebSocket, at most so many bytes ahead of its reader, which says how far it
 * has read by answering syncs (`watch-routes.ts`). One that doesn't is closed with 1013.
 */
import { LIMITS } from "../shared/base/limits.ts";
import { problemOf } from "./problem.ts";
import { tooSlow } from "./readers.ts";
import type { CarrierParts } from "./watch-carrier.ts";
import type { Message } from "./watch-feed.ts";
import type { ServerSocket } from "./workerd.ts";

/** Syncs that may be unanswered before the feed rests. */
const SYNCS_MAX = 2;

export class SocketFeed {
  /** Undefined once it has ended. */
  #parts: CarrierParts | undefined;
  readonly #socket: ServerSocket;
  readonly #keepalive: ReturnType<typeof setInterval>;
  /** Bytes since the last sync, and those before each sync that the reader has yet to answer. */
  #sinceSync = 0;
  readonly #unanswered = new Map<string, number>();
  #wake: (() => void) | undefined;

  constructor(parts: CarrierParts, socket: ServerSocket) {
    this.#parts = parts;
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => this.#answered(String(data)));
    socket.addEventListener("close", () => this.#finish(1000, ""));
    socket.addEventListener("error", () => this.#finish(1011, ""));
    const { edgeKeepaliveMilliseconds } = LIMITS;
    const interval = Math.min(edgeKeepaliveMilliseconds, parts.stallMilliseconds);
    this.#keepalive = setInterval(() => this.#look(), interval);
  }

  /** The reader is too slow. */
  end(): void {
    this.#send({ event: "error", data: problemOf(tooSlow()) });
    this.#finish(1013, "the reader is too slow: resume by id");
  }

  async run(): Promise<void> {
    while (this.#parts !== undefined) {
      const message = await this.#parts.feed.next();
      if (message === undefined) return this.#finish(1000, "");
      if (message.event === "error") return this.#fail(message);
      const { event, id, data } = message;
      this.#send({ event, id, data });
      if (this.#sinceSync >= LIMITS.edgeWatchBytesMax && message.id !== undefined) {
        this.#sync(message.id);
      }
      while (this.#unanswered.size >= SYNCS_MAX && this.#parts !== undefined) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  #sync(id: string): void {
    const bytes = this.#sinceSync;
    this.#sinceSync = 0;
    this.#unanswered.set(id, bytes);
    this.#send({ event: "sync", id });
    this.#parts?.reader.hold(bytes);
  }

  #answered(id: string): void {
    const bytes = this.#unanswered.get(id);
    if (bytes === undefined) return;
    this.#unanswered.delete(id);
    this.#parts?.reader.took(bytes);
    this.#wake?.();
  }

  #look(): void {
    const expired = this.#parts?.feed.expired();
    if (expired !== undefined) this.#fail(expired);
    else this.#parts?.reader.check();
    this.#send({ event: "keepalive" });
  }

  #send(message: object): void {
    if (this.#parts === undefined) return;
    const text = JSON.stringify(message);
    this.#sinceSync += text.length;
    this.#socket.send(text);
  }

  #fail(message: Message): void {
    this.#send(message);
    this.#finish(1008, "the watch ended: see its last message");
  }

  #finish(code: number, reason: string): void {
    const parts = this.#parts;
    if (parts === undefined) return;
    this.#parts = undefined;
    clearInterval(this.#keepalive);
    parts.close();
    parts.reader.leave();
    this.#socket.close(code, reason);
    this.#wake?.();
  }
}
