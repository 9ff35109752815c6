/**
 * The edge over a service binding: another Worker's `env.STORE`, whose `fetch` goes to the edge
 * without a network in between. Calls are POSTs, watches WebSockets that come of an upgrade.
 */
import type { Bytes } from "../base/bytes.ts";
import type { ClientPlatform, ResponseLike, SocketLike } from "./platform.ts";

/** What has Workers' `fetch`: a service binding, a Durable Object's stub, or a function's wrapper. */
export interface Fetcher {
  fetch(
    url: string,
    init: {
      method: string;
      headers: Record<string, string>;
      body?: Bytes;
      signal?: AbortSignal;
    },
  ): Promise<ResponseLike & { readonly webSocket?: (SocketLike & { accept?(): void }) | null }>;
}

/**
 * Requests through a binding never leave the account, so their host means nothing but that they
 * come from here.
 */
export const FETCHER_URL = "http://localhost";

export function fetcherPlatform(fetcher: Fetcher): Pick<ClientPlatform, "fetch" | "openSocket"> {
  return {
    fetch: (url, init) => fetcher.fetch(url, init),
    async openSocket(url) {
      const init = { method: "GET", headers: { upgrade: "websocket" } };
      const { webSocket, status } = await fetcher.fetch(url.replace(/^ws/, "http"), init);
      if (webSocket === undefined || webSocket === null) {
        throw new Error(`the upgrade was answered with HTTP ${status}`);
      }
      webSocket.accept?.();
      return webSocket;
    },
  };
}
