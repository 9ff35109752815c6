/**
 * What the client needs of its runtime: a WebSocket, `fetch` and clocks. The defaults are the
 * platform's own (Node, browsers and Workers all have them); tests and unusual runtimes inject theirs.
 */
import type { Bytes } from "../base/bytes.ts";

/** The part of the WHATWG WebSocket that the client uses. */
export interface SocketLike {
  /** 1: it is open already, and no "open" will come. */
  readonly readyState?: number;
  binaryType: string;
  readonly bufferedAmount?: number;
  send(data: Bytes): void;
  close(code?: number, reason?: string): void;
  addEventListener(type: "open", listener: () => void): void;
  addEventListener(type: "error", listener: (event: { message?: string }) => void): void;
  addEventListener(type: "message", listener: (event: { data?: unknown }) => void): void;
  addEventListener(
    type: "close",
    listener: (event: { code?: number; reason?: string }) => void,
  ): void;
}

export interface ResponseLike {
  readonly status: number;
  arrayBuffer(): Promise<ArrayBuffer>;
}

export type FetchLike = (
  url: string,
  init: {
    method: string;
    headers: Record<string, string>;
    body: Bytes;
    signal: AbortSignal;
  },
) => Promise<ResponseLike>;

export interface ClientPlatform {
  openSocket(url: string): SocketLike | Promise<SocketLike>;
  fetch: FetchLike;
  /** Milliseconds that never step back; its zero means nothing. */
  now(): number;
  /** In [0, 1): spreads retries. */
  random(): number;
  /** Unpredictable bytes, for ids that must be nobody else's. */
  randomBytes(count: number): Bytes;
}

/** The globals are read when used, so that importing the client does nothing. */
interface Globals {
  readonly WebSocket: new (url: string) => SocketLike;
  readonly fetch: FetchLike;
  readonly navigator?: { readonly userAgent?: string };
  readonly crypto: { getRandomValues(bytes: Uint8Array<ArrayBuffer>): Bytes };
}

const globals = globalThis as unknown as Globals;

/**
 * A clock that is never slower than either of the platform's: the monotonic one may stand still
 * while a machine sleeps, the wall clock may step back. A lease's owner must not believe too long,
 * so the faster one counts.
 */
function steadyClock(): () => number {
  let total = 0;
  let monotonic: number | undefined;
  let wall = 0;
  return () => {
    const nextMonotonic = performance.now();
    const nextWall = Date.now();
    if (monotonic !== undefined) {
      total += Math.max(0, nextMonotonic - monotonic, nextWall - wall);
    }
    monotonic = nextMonotonic;
    wall = nextWall;
    return total;
  };
}

/** Cloudflare's runtime, in which no socket may outlive its request. */
export function isWorkerd(): boolean {
  return globals.navigator?.userAgent === "Cloudflare-Workers";
}

export function defaultPlatform(): ClientPlatform {
  return {
    openSocket: (url) => new globals.WebSocket(url),
    fetch: (url, init) => globals.fetch(url, init),
    now: steadyClock(),
    random: Math.random,
    randomBytes: (count) => globals.crypto.getRandomValues(new Uint8Array(count)),
  };
}

/** Resolves after so many milliseconds, or at once when the signal aborts. */
export function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) resolve();
    else limit({ milliseconds, signal }, () => resolve());
  });
}

/**
 * Calls `ended` once, when the time is over or the signal aborts. The returned function calls it
 * off.
 */
export function limit(
  { milliseconds, signal }: { milliseconds: number; signal?: AbortSignal | undefined },
  ended: (aborted: boolean) => void,
): () => void {
  const off = (): void => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  };
  const end = (aborted: boolean): void => {
    off();
    ended(aborted);
  };
  const abort = (): void => end(true);
  const timer = setTimeout(() => end(false), milliseconds);
  signal?.addEventListener("abort", abort, { once: true });
  return off;
}
