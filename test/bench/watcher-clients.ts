/**
 * Thousands of watchers of one prefix: links by WebSocket, or server-sent events. Each must hear of each revision
 * once and in order; what it heard is counted, not kept.
 */
import { get } from "node:http";
import { WebSocket } from "ws";
import { prefixEnd, utf8 } from "../../shared/base/bytes.ts";
import { decodeReplyBatch, encodeCallFrame, joinFrames } from "../../shared/wire/link-codec.ts";
import { LINK_VERSION } from "../../shared/wire/link.ts";
import type { LinkCallFrame } from "../../shared/wire/link.ts";
import { watchRequest } from "../support/watch-request.ts";

export type Kind = "links" | "events";

export const PREFIX = "fan/";
/** Watchers that are opened at a time. */
const WAVE = 50;
const WAIT_MILLISECONDS_MAX = 120_000;

const HELLO: LinkCallFrame = { kind: "hello", version: LINK_VERSION, role: "edge", token: "" };
const OPEN: LinkCallFrame = { kind: "watchOpen", stream: 1, requireLeader: false };
const CREATE: LinkCallFrame = {
  kind: "watchCreate",
  stream: 1,
  create: watchRequest({
    key: utf8(PREFIX),
    rangeEnd: prefixEnd(utf8(PREFIX)) ?? Uint8Array.of(0),
    fragment: true,
  }),
};

/** What all watchers tell. */
interface Listener {
  ready(): void;
  heard(place: number, revision: number): void;
  failed(error: Error): void;
}

export class Watchers {
  readonly #revisions: number[] = [];
  /** The revision of each watcher's last event. */
  readonly #last: number[] = [];
  readonly #closers: (() => void)[] = [];
  #waiting: { readonly revision: number; readonly all: () => void } | undefined;
  #reached = 0;
  #failure: Error | undefined;
  #fail: (error: Error) => void = () => undefined;
  #isOver = false;

  /** Resolves once all watch. */
  static async open(url: string, kind: Kind, count: number): Promise<Watchers> {
    const watchers = new Watchers();
    const start = kind === "links" ? openLink : openEvents;
    for (let first = 0; first < count; first += WAVE) {
      const wave: Promise<void>[] = [];
      for (let place = first; place < Math.min(count, first + WAVE); place += 1) {
        const opened = new Promise<void>((ready, failed) => {
          const heard = (at: number, revision: number): void => watchers.#heard(at, revision);
          const listener = {
            ready,
            heard,
            failed: (error: Error): void => {
              failed(error);
              watchers.#failed(error);
            },
          };
          watchers.#last.push(0);
          watchers.#closers.push(start(url, place, listener));
        });
        wave.push(within(opened, "a watcher wasn't opened"));
      }
      await Promise.all(wave);
    }
    return watchers;
  }

  /** Resolves once all have heard of this revision; they hear of each that is put here, in order. */
  async hear(revision: number): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#revisions.push(revision);
    const heard = new Promise<void>((all, fail) => {
      this.#fail = fail;
      this.#waiting = { revision, all };
      this.#reached = this.#last.filter((last) => last >= revision).length;
      if (this.#reached === this.#last.length) all();
    });
    await within(heard, `not all heard of revision ${revision}`);
  }

  close(): void {
    this.#isOver = true;
    for (const close of this.#closers) close();
  }

  #heard(place: number, revision: number): void {
    const last = this.#last[place] ?? 0;
    // Of the revisions that were put, the next one to its last: one that isn't put yet is the newest.
    const position = last === 0 ? 0 : this.#revisions.indexOf(last) + 1;
    const expected = this.#revisions[position] ?? revision;
    if (revision <= last || revision !== expected) {
      this.#failed(new Error(`watcher ${place} heard of ${revision} behind ${last}`));
    }
    this.#last[place] = revision;
    if (revision !== this.#waiting?.revision) return;
    this.#reached += 1;
    if (this.#reached === this.#last.length) this.#waiting.all();
  }

  #failed(error: Error): void {
    if (this.#isOver) return;
    this.#failure ??= error;
    this.#fail(error);
  }
}

function openLink(url: string, place: number, listener: Listener): () => void {
  const socket = new WebSocket(url.replace("http", "ws"), { perMessageDeflate: false });
  socket.on("open", () => socket.send(joinFrames([HELLO, OPEN, CREATE].map(encodeCallFrame))));
  socket.on("message", (data: Buffer) => {
    for (const frame of decodeReplyBatch(data)) {
      if (frame.kind === "welcome") continue;
      if (frame.kind !== "watchResponse") {
        listener.failed(new Error(`watcher ${place} was answered ${frame.kind}`));
        continue;
      }
      if (frame.response.created) listener.ready();
      for (const { kv } of frame.response.events) listener.heard(place, kv.modRevision);
    }
  });
  socket.on("error", (error) => listener.failed(error));
  socket.on("close", (code) => listener.failed(new Error(`watcher ${place} was closed: ${code}`)));
  return () => socket.terminate();
}

function openEvents(url: string, place: number, listener: Listener): () => void {
  let text = "";
  const request = get(`${url}/watch?prefix=${PREFIX}`, { agent: false }, (response) => {
    response.setEncoding("utf8");
    response.on("data", (piece: string) => {
      text += piece;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const block = text.slice(0, end);
        text = text.slice(end + 2);
        const event = /^event: (\w+)$/m.exec(block)?.[1];
        if (event === "ready") listener.ready();
        else if (event === "put") listener.heard(place, Number(/^id: (\d+)\./m.exec(block)?.[1]));
        else if (event !== undefined) listener.failed(new Error(`watcher ${place}: ${block}`));
      }
    });
    response.on("end", () => listener.failed(new Error(`watcher ${place} was ended`)));
    response.on("error", (error) => listener.failed(error));
  });
  request.on("error", (error) => listener.failed(error));
  return () => request.destroy();
}

async function within<Value>(promise: Promise<Value>, what: string): Promise<Value> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} in time`)), WAIT_MILLISECONDS_MAX);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
