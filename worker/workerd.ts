/**
 * What workerd adds to the platform that all runtimes share: pairs of joined sockets, one of which
 * a response hands to the client, and sockets as a response's content.
 */
import type { Bytes } from "../shared/base/bytes.ts";
import type { SocketLike } from "../shared/client/platform.ts";

/** A WebSocket on this side; frames are text or bytes. */
export interface ServerSocket extends Omit<SocketLike, "send"> {
  accept(): void;
  send(data: Bytes | string): void;
}

interface WorkerdGlobals {
  readonly WebSocketPair?: new () => { 0: SocketLike; 1: ServerSocket };
}

/** Read when used: other runtimes don't have them. */
export const workerd = globalThis as unknown as WorkerdGlobals;

export type UpgradeAnswer = Response & { readonly webSocket?: ServerSocket | null };
