/**
 * The outgoing link to one member: raft's messages, and small calls with their replies. It dials the member again for
 * as long as the member is a peer. Messages are gathered and leave as one frame once the current callback is done;
 * while there is no connection, or when too much waits already, they are dropped and raft is told, for raft repeats
 * what still matters.
 */
import { LIMITS } from "../../shared/base/limits.ts";
import type { Message } from "../../shared/raft/types.ts";
import type { PeerCall, PeerReply } from "../../shared/wire/peer-call.ts";
import type { PeerFrame } from "../../shared/wire/peer-codec.ts";
import { messageBatches } from "../../shared/wire/raft-codec.ts";
import { dial } from "./dialler.ts";
import type { DialOptions } from "./dialler.ts";
import { CLOSE } from "./frame-socket.ts";
import type { FrameSocket } from "./frame-socket.ts";

export interface MessageLinkOptions extends Pick<DialOptions, "identity" | "to" | "tls"> {
  readonly urls: readonly string[];
  /** These messages were dropped: there is no connection, or too much waits for it. */
  readonly onUnsent: (messages: readonly Message[]) => void;
  readonly onUp: () => void;
  readonly onDown: (code: number, reason: string) => void;
}

interface WaitingCall {
  readonly resolve: (reply: PeerReply) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

export class MessageLink {
  readonly #options: MessageLinkOptions;
  readonly #calls = new Map<number, WaitingCall>();
  #urls: readonly string[];
  #attempts = 0;
  #nextCall = 1;
  #link: FrameSocket | undefined;
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

  send(messages: readonly Message[]): void {
    if (messages.length === 0) return;
    if (this.#waiting.length === 0) queueMicrotask(() => this.#flush());
    this.#waiting.push(...messages);
  }

  call(call: PeerCall, timeoutMilliseconds: number): Promise<PeerReply> {
    return new Promise((resolve, reject) => {
      const link = this.#link;
      if (link === undefined) return reject(new Error("the member is not connected"));
      if (this.#calls.size >= LIMITS.peerCallsMax) return reject(new Error("too many calls"));
      const id = this.#nextCall;
      this.#nextCall += 1;
      const timer = setTimeout(() => {
        this.#calls.delete(id);
        reject(new Error("the member did not answer in time"));
      }, timeoutMilliseconds);
      this.#calls.set(id, { resolve, reject, timer });
      link.send({ kind: "call", id, call });
    });
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#redial);
    this.#giveUp?.();
    this.#rejectCalls("the link was closed");
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
      onReady: (link) => {
        this.#link = link;
        this.#attempts = 0;
        this.#options.onUp();
      },
      onFrame: (frame) => this.#receive(frame),
      onClose: (code, reason) => this.#down(code, reason),
    });
  }

  #down(code: number, reason: string): void {
    this.#link = undefined;
    this.#rejectCalls("the connection was lost");
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
    if (frame.kind !== "reply") {
      return this.#link?.close(CLOSE.protocol, `a ${frame.kind} frame on an outgoing link`);
    }
    const waiting = this.#calls.get(frame.id);
    if (waiting === undefined) return; // It came too late.
    this.#calls.delete(frame.id);
    clearTimeout(waiting.timer);
    waiting.resolve(frame.reply);
  }

  #rejectCalls(reason: string): void {
    for (const { reject, timer } of this.#calls.values()) {
      clearTimeout(timer);
      reject(new Error(reason));
    }
    this.#calls.clear();
  }
}
