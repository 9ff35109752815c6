/**
 * `quorate/client` on Node: the same client, with sockets on versions whose platform has none (20),
 * by `ws`.
 */
import { WebSocket } from "ws";
import { connect as connectAnywhere } from "../shared/client/index.ts";
import type { ConnectOptions, SocketLike, Store } from "../shared/client/index.ts";

export * from "../shared/client/index.ts";

export function connect(options: ConnectOptions): Store<string> {
  if ("WebSocket" in globalThis) return connectAnywhere(options);
  const openSocket = (url: string): SocketLike => new WebSocket(url);
  return connectAnywhere({ ...options, platform: { openSocket, ...options.platform } });
}
