/** What the WebSocket doors share before the handshake: whose pages may come, and refusals. */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { http } from "../http2/node-http.ts";

/**
 * Whether the request's origin is absent (no browser), of the same host, or listed. CORS does not
 * cover WebSocket, so every upgrade is checked.
 */
export function isOriginAllowed(request: IncomingMessage, listed: readonly string[]): boolean {
  const { origin, host } = request.headers;
  if (origin === undefined || listed.includes(origin)) return true;
  return URL.canParse(origin) && new URL(origin).host === host;
}

/** Answers an upgrade with an error status, and closes. */
export function refuseUpgrade(socket: Duplex, status: number, text = ""): void {
  // Nobody else listens any more, and a client that resets the connection must not end the process.
  socket.on("error", () => undefined);
  socket.once("finish", () => socket.destroy());
  socket.end(
    `HTTP/1.1 ${status} ${http.STATUS_CODES[status] ?? ""}\r\nContent-Type: text/plain\r\n` +
      `Connection: close\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  );
}
