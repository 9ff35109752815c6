/**
 * WebSockets and POSTs without a network: the client's platform over `serveLink`, with endpoints
 * that a test can refuse, silence or cut. Time is the test's when it gives a clock.
 */
import type { ClientPlatform, SocketLike } from "../../shared/client/index.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { exchangeLink } from "../../shared/peer/link-exchange.ts";
import { serveLink } from "../../shared/peer/link-service.ts";
import type { LinkSession } from "../../shared/peer/link-service.ts";
import type { MemoryServices } from "./memory-services.ts";

type Listener = (event: {
  data?: unknown;
  code?: number;
  reason?: string;
  message?: string;
}) => void;

const defer = (callback: () => void): void => void setImmediate(callback);

class MemorySocket implements SocketLike {
  binaryType = "blob";
  readonly #listeners = new Map<string, Listener[]>();
  readonly #peer: Endpoint;
  #session: LinkSession | undefined;
  #open = true;

  constructor(peer: Endpoint) {
    this.#peer = peer;
    defer(() => this.#connect());
  }

  addEventListener(type: string, listener: Listener): void {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
  }

  send(data: Bytes): void {
    const batch = data.slice();
    defer(() => {
      this.#peer.batches += 1;
      if (this.#peer.state === "up") this.#session?.receive(batch);
    });
  }

  close(): void {
    this.#end();
  }

  /** The connection is gone, as seen from both sides. */
  cut(): void {
    if (!this.#open) return;
    this.#end();
    this.#emit("close", { code: 1006 });
  }

  #connect(): void {
    if (this.#peer.state === "silent") return;
    if (this.#peer.state === "down") {
      this.#open = false;
      this.#emit("error", { message: "refused" });
      return;
    }
    this.#peer.sockets.add(this);
    this.#session = serveLink(
      this.#peer.services,
      {
        send: (batch) => {
          const data = batch.slice().buffer;
          defer(() => {
            if (this.#peer.state === "up") this.#emit("message", { data });
          });
          return true;
        },
        close: (code, reason) => defer(() => this.#emit("close", { code, reason })),
        defer,
      },
      { clusterId: 1n, memberId: 2n, push: true, accepts: (token) => token !== "wrong" },
    );
    this.#emit("open", {});
  }

  #end(): void {
    this.#open = false;
    this.#peer.sockets.delete(this);
    this.#session?.closed();
  }

  #emit(type: string, event: Parameters<Listener>[0]): void {
    if (!this.#open && type === "message") return;
    for (const listener of this.#listeners.get(type) ?? []) listener(event);
  }
}

/** A peer at an address. "down": refuses; "silent": takes everything and says nothing. */
export class Endpoint {
  state: "up" | "down" | "silent" = "up";
  readonly services: MemoryServices;
  readonly sockets = new Set<MemorySocket>();
  /** Messages that arrived, each a batch of frames. */
  batches = 0;

  constructor(services: MemoryServices) {
    this.services = services;
  }

  cutAll(): void {
    for (const socket of this.sockets) socket.cut();
  }
}

/** Endpoints by their base URL. */
export function memoryPlatform(endpoints: Readonly<Record<string, Endpoint>>): ClientPlatform {
  const find = (url: string): Endpoint => {
    const base = url.replace(/^ws/, "http").replace(/\/link$/, "");
    const endpoint = endpoints[base];
    if (endpoint === undefined) throw new Error(`no endpoint at ${base}`);
    return endpoint;
  };
  return {
    openSocket: (url) => new MemorySocket(find(url)),
    async fetch(url, { body, signal }) {
      const endpoint = find(url);
      if (endpoint.state === "down") throw new TypeError("fetch failed");
      if (endpoint.state === "silent") {
        await new Promise((_, reject) => {
          signal.addEventListener("abort", () => reject(new Error("aborted")), { once: true });
        });
      }
      const link = { clusterId: 1n, memberId: 2n, accepts: () => true, defer };
      const [batch] = await exchangeLink(endpoint.services, body.slice(), link).answer;
      if (batch === undefined) throw new Error("no answer");
      return { status: 200, arrayBuffer: async () => Uint8Array.from(batch).buffer };
    },
    now: () => performance.now(),
    random: () => 0.5,
    randomBytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
  };
}
