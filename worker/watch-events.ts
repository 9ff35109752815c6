/**
 * A watch's feed as a stream of server-sent events, pulled by its reader: what isn't asked for stays
 * in the watch, whose buffer is bounded. A reader that is ended hears why, if it reads on soon: an
 * `error` event, and the end. In the middle of an event there is the end alone, after which a
 * reader forgets the half (HTML, 9.2.6). Who doesn't read at all is cut.
 */
import { EMPTY, utf8 } from "../shared/base/bytes.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import { LIMITS } from "../shared/base/limits.ts";
import { problemOf } from "./problem.ts";
import { tooSlow } from "./readers.ts";
import type { CarrierParts } from "./watch-carrier.ts";
import type { Message } from "./watch-feed.ts";

type Controller = ReadableStreamDefaultController<Uint8Array>;

export class EventStream {
  readonly body: ReadableStream<Uint8Array>;
  readonly #keepalive: ReturnType<typeof setInterval>;
  /** Undefined once the feed is over: nothing of it is held any longer. */
  #parts: CarrierParts | undefined;
  /** Of the event under way, or of the last words, what the reader has yet to ask for. */
  #rest: Bytes = EMPTY;
  #inEvent = false;
  /** Of the last event that was sent whole: the last words name it, so that the reader resumes there. */
  #lastId: string | undefined;
  #restId: string | undefined;
  /** The reader has asked, and waits for what happens next. */
  #isAwaited = false;
  #isOver = false;
  #controller: Controller | undefined;
  #linger: ReturnType<typeof setTimeout> | undefined;

  constructor(parts: CarrierParts) {
    this.#parts = parts;
    this.#lastId = parts.feed.id;
    this.#restId = this.#lastId;
    this.body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
          controller.enqueue(utf8("retry: 1000\n\n"));
        },
        pull: (controller) => this.#pull(controller),
        cancel: () => {
          this.#isOver = true;
          this.#stopLingering();
          this.#finish();
        },
      },
      { highWaterMark: 0 },
    );
    const { edgeKeepaliveMilliseconds } = LIMITS;
    const interval = Math.min(edgeKeepaliveMilliseconds, parts.stallMilliseconds);
    this.#keepalive = setInterval(() => this.#look(), interval);
  }

  /** The reader is too slow. */
  end(): void {
    this.#endWith({ event: "error", data: problemOf(tooSlow()) });
  }

  /** Lets go of everything but these words. */
  #endWith(last: Message): void {
    this.#finish();
    const id = this.#lastId;
    const named = id === undefined ? last : { ...last, id };
    this.#rest = this.#inEvent ? EMPTY : utf8(eventText(named));
    this.#linger = setTimeout(() => {
      this.#isOver = true;
      this.#controller?.error(tooSlow());
    }, LIMITS.edgeLingerMilliseconds);
  }

  async #pull(controller: Controller): Promise<void> {
    if (this.#rest.length === 0 && this.#parts !== undefined) {
      this.#isAwaited = true;
      const message = await this.#parts.feed.next();
      this.#isAwaited = false;
      // Unless it has ended meanwhile, with words of its own.
      if (this.#parts !== undefined) this.#take(message, this.#parts);
    }
    if (this.#isOver) return;
    if (this.#rest.length === 0) {
      this.#isOver = true;
      this.#stopLingering();
      controller.close();
      return;
    }
    // A copy: what is sent must not keep all of a large event.
    const piece = this.#rest.slice(0, LIMITS.edgePieceBytes);
    this.#rest = this.#rest.subarray(piece.length);
    this.#inEvent = this.#rest.length > 0;
    if (!this.#inEvent) this.#lastId = this.#restId;
    this.#parts?.reader.took(piece.length);
    controller.enqueue(piece);
  }

  #take(message: Message | undefined, { reader }: CarrierParts): void {
    this.#rest = message === undefined ? EMPTY : utf8(eventText(message));
    this.#restId = message?.id ?? this.#restId;
    if (message === undefined || message.event === "error") this.#finish();
    else reader.hold(this.#rest.length);
  }

  /** Now and then: is there still a reader, and is it who it was? */
  #look(): void {
    const { feed, reader } = this.#parts ?? {};
    const expired = feed?.expired();
    if (expired !== undefined) this.#endWith(expired);
    else reader?.check();
    // A reader that lags has bytes to come: it needs no sign of life.
    const controller = this.#controller;
    const isIdle = this.#parts !== undefined && this.#isAwaited && controller?.desiredSize === 0;
    if (isIdle) controller.enqueue(utf8(": keepalive\n\n"));
  }

  #stopLingering(): void {
    if (this.#linger !== undefined) clearTimeout(this.#linger);
  }

  #finish(): void {
    clearInterval(this.#keepalive);
    this.#parts?.close();
    this.#parts?.reader.leave();
    this.#parts = undefined;
  }
}

function eventText({ event, id, data }: Message): string {
  return `event: ${event}\n${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`;
}
