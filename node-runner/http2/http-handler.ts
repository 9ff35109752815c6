/**
 * Plain HTTP as the peer's routes see it: one small interface over HTTP/1.1 and HTTP/2, so that
 * gateway, health and metrics are written once. Bodies are pushed; WebSocket upgrades are
 * HTTP/1.1's own and don't come through here.
 */
import type { Socket } from "node:net";
import type { Bytes } from "../../shared/base/bytes.ts";

export type HttpHandler = (request: HttpRequest, response: HttpResponse) => void;

export interface HttpRequest {
  readonly method: string;
  /** The path with its query, as sent. */
  readonly target: string;
  readonly httpVersion: "1.1" | "2.0";
  readonly socket: Socket;
  /** A header's value (of several, joined); names are in lower case. */
  header(name: string): string | undefined;
  /** Starts the delivery of the body. Until then the client is held to its window. */
  receive(receiver: BodyReceiver): void;
  pause(): void;
  resume(): void;
  /**
   * Counts octets that are kept until the response ends; false: the connection holds more than its
   * share.
   */
  hold(bytes: number): boolean;
}

export interface BodyReceiver {
  data(chunk: Buffer): void;
  end(): void;
  /** The client is gone before the body was complete; nothing follows. */
  aborted(): void;
}

export interface HttpResponse {
  /** Ended, or the client is gone. */
  readonly isOver: boolean;
  readonly hasHead: boolean;
  /**
   * Once, before any body; names in lower case. Headers that belong to a connection are dropped
   * over HTTP/2.
   */
  writeHead(status: number, headers?: Readonly<Record<string, string>>): void;
  /** False: wait for `onDrain`; the octets are queued all the same. */
  write(body: Bytes | string): boolean;
  end(body?: Bytes | string): void;
  onDrain(callback: () => void): void;
  /** Calls back once when the client is gone before the response has ended. */
  onAbort(callback: () => void): void;
}

/**
 * The whole body; undefined when it is longer than `bytesMax`. Rejects when the client goes away.
 */
export function readBody(request: HttpRequest, bytesMax: number): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    request.receive({
      data(chunk) {
        length += chunk.length;
        if (length > bytesMax || !request.hold(chunk.length)) {
          chunks.length = 0;
          resolve(undefined);
        } else {
          chunks.push(chunk);
        }
      },
      end: () => resolve(Buffer.concat(chunks)),
      aborted: () => reject(new Error("the client is gone")),
    });
  });
}
