/**
 * How the edge reaches peers: those with addresses by the runtime's `fetch` and WebSocket, those
 * that are Durable Objects of the same Worker by their stubs. Both look alike to what calls them.
 */
import { defaultPlatform } from "../shared/client/platform.ts";
import type { ClientPlatform, SocketLike } from "../shared/client/platform.ts";
import type { ServerSocket, UpgradeAnswer } from "./workerd.ts";
import { voterNameOf, type ServerlessEnv } from "./durable/serverless-config.ts";

/** A fetch as the whole edge uses it, beside what the client needs. */
export interface EdgePlatform extends ClientPlatform {
  request(url: string, init: RequestInit): Promise<Response>;
}

let shared: ClientPlatform | undefined;

/** One clock for all requests, so that what one learnt of a peer serves the next. */
function sharedPlatform(): ClientPlatform {
  shared ??= defaultPlatform();
  return shared;
}

export function platformOf(env: ServerlessEnv): EdgePlatform {
  const platform = sharedPlatform();
  const request = (url: string, init: RequestInit): Promise<Response> => {
    const voter = voterNameOf(url);
    if (voter === undefined) return fetch(url, init);
    if (env.PEER === undefined) throw new TypeError("the binding PEER is missing");
    return env.PEER.getByName(voter).fetch(url, init);
  };
  return {
    ...platform,
    request,
    fetch: (url, init) => request(url, init),
    openSocket: (url) =>
      voterNameOf(url) === undefined ? platform.openSocket(url) : new StubSocket(url, request),
  };
}

type Listener = (event: {
  data?: unknown;
  code?: number;
  reason?: string;
  message?: string;
}) => void;

/** A WebSocket to a Durable Object, which is opened by a request instead of an address. */
class StubSocket implements SocketLike {
  binaryType = "arraybuffer";
  readonly #listeners = new Map<string, Listener[]>();
  #socket: ServerSocket | undefined;
  #closed = false;

  constructor(url: string, request: EdgePlatform["request"]) {
    void this.#open(url.replace(/^ws/, "http"), request);
  }

  get bufferedAmount(): number {
    return this.#socket?.bufferedAmount ?? 0;
  }

  send(data: Uint8Array): void {
    this.#socket?.send(data);
  }

  close(code?: number, reason?: string): void {
    this.#closed = true;
    this.#socket?.close(code, reason);
  }

  addEventListener(type: string, listener: Listener): void {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
  }

  async #open(url: string, request: EdgePlatform["request"]): Promise<void> {
    try {
      const answer: UpgradeAnswer = await request(url, { headers: { upgrade: "websocket" } });
      const { webSocket, status } = answer;
      if (webSocket === undefined || webSocket === null) throw new Error(`HTTP status ${status}`);
      webSocket.binaryType = "arraybuffer";
      webSocket.accept();
      if (this.#closed) return webSocket.close(1000, "");
      this.#socket = webSocket;
      webSocket.addEventListener("message", (event) => this.#emit("message", event));
      webSocket.addEventListener("close", (event) => this.#emit("close", event));
      webSocket.addEventListener("error", (event) => this.#emit("error", event));
      this.#emit("open", {});
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#emit("error", { message });
      this.#emit("close", { code: 1006, reason: message });
    }
  }

  #emit(type: string, event: Parameters<Listener>[0]): void {
    for (const listener of this.#listeners.get(type) ?? []) listener(event);
  }
}
