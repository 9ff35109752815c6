/**
 * The outgoing link to one member: raft's messages, and small calls with their replies. It dials the member again for
 * as long as the member is a peer. Messages are gathered and leave as one frame once the current callback is done;
 * while there is no connection, or when too much waits already, they are dropped and raft is told, for raft repeats
 * what still matters.
 *
 * A member in a Durable Object doesn't dial: what it has to say comes on this link, too.
 */
import { LIMITS } from "../../shared/base/limits.ts";
import type { PeerInbox } from "../../shared/peer/host.ts";
import { CLOSE } from "../../shared/peer/links/frame-link.ts";
import { LinkIntake } from "../../shared/peer/links/link-intake.ts";
import { WaitingCalls } from "../../shared/peer/links/waiting-calls.ts";
import type { Message } from "../../shared/raft/types.ts";
import type { PeerCall, PeerReply } from "../../shared/wire/peer-call.ts";
import type { PeerFrame } from "../../shared/wire/peer-codec.ts";
import { messageBatches } from "../../shared/wire/raft-codec.ts";
import { dial } from "./dialler.ts";
import type { DialOptions } from "./dialler.ts";
import type { FrameSocket } from "./frame-socket.ts";

export interface MessageLinkOptions extends Pick<
  DialOptions,
  "identity" | "to" | "tls" | "frameBytesMax"
> {
  readonly urls: readonly string[];
  /** These messages were dropped: there is no connection, or too much waits for it. */
  readonly onUnsent: (messages: readonly Message[]) => void;
  readonly inbox: () => PeerInbox;
  readonly onUp: () => void;
  readonly onDown: (code: number, reason: string) => void;
}

export class MessageLink {
  readonly #options: MessageLinkOptions;
  readonly #calls = new WaitingCalls((milliseconds, callback) => {
    const timer = setTimeout(callback, milliseconds);
    return () => clearTimeout(timer);
  });
  #urls: readonly string[];
  #attempts = 0;
  #link: FrameSocket | undefined;
  #intake: LinkIntake | undefined;
  #version: number | undefined;
  #giveUp: (() => void) | undefined;
  #redial: NodeJS.Timeout | undefined;
  #closed = false;
  #waiting: Message[] = [];

  constructor(options: MessageLinkOptions) {
    this.#options = options;
    this.#urls = options.urls;
    this.#dial();
  }

  /** The link to use from the next connection on. */
  setUrls(urls: readonly string[]): void {
    this.#urls = urls;
  }

  get lastReceived(): number | undefined {
    return this.#link?.lastReceived;
  }

  /** What the link speaks; undefined: there is none. */
  get version(): number | undefined {
    return this.#version;
  }

  send(messages: readonly Message[]): void {
    if (messages.length === 0) return;
    if (this.#waiting.length === 0) queueMicrotask(() => this.#flush());
    this.#waiting.push(...messages);
  }

  call(call: PeerCall, timeoutMilliseconds: number): Promise<PeerReply> {
    const link = this.#link;
    if (link === undefined) return Promise.reject(new Error("the member is not connected"));
    return this.#calls.call(link, call, timeoutMilliseconds);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#redial);
    this.#giveUp?.();
    this.#calls.rejectAll("the link was closed");
  }

  #flush(): void {
    const messages = this.#waiting;
    this.#waiting = [];
    const link = this.#link;
    if (this.#closed) return;
    if (link === undefined || link.bufferedBytes > LIMITS.peerSendBufferBytesMax) {
      return this.#options.onUnsent(messages);
    }
    for (const batch of messageBatches(messages)) link.send({ kind: "messages", messages: batch });
  }

  #dial(): void {
    const url = this.#urls[this.#attempts % Math.max(this.#urls.length, 1)] ?? "";
    this.#attempts += 1;
    this.#giveUp = dial({
      ...this.#options,
      url,
      purpose: "messages",
      onReady: (link, version) => {
        this.#link = link;
        this.#intake = new LinkIntake(link, this.#options.to.toString(), this.#options.inbox);
        this.#version = version;
        this.#attempts = 0;
        this.#options.onUp();
      },
      onFrame: (frame) => this.#receive(frame),
      onClose: (code, reason) => this.#down(code, reason),
    });
  }

  #down(code: number, reason: string): void {
    this.#link = undefined;
    this.#version = undefined;
    this.#intake?.closed(reason);
    this.#calls.rejectAll("the connection was lost");
    if (this.#closed) return;
    this.#options.onDown(code, reason);
    const pause = Math.min(
      LIMITS.peerRedialMilliseconds * 2 ** Math.min(this.#attempts, 10),
      LIMITS.peerRedialMillisecondsMax,
    );
    this.#redial = setTimeout(() => this.#dial(), pause * (0.5 + Math.random() / 2));
    this.#redial.unref();
  }

  #receive(frame: PeerFrame): void {
    if (frame.kind === "reply") return this.#calls.receive(frame);
    if (this.#intake?.receive(frame) !== true) {
      this.#link?.close(CLOSE.protocol, `a ${frame.kind} frame on an outgoing link`);
    }
  }
}
