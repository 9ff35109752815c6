/**
 * Listeners that stand in for peers: what a test serves on a port, and a proxy before a real peer
 * that loses its answers.
 */
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo, Server as TcpServer, Socket } from "node:net";
import { decodeCallBatch, encodeCallFrame, joinFrames } from "../../shared/wire/link-codec.ts";
import { isLinkWrite } from "../../shared/wire/link-writes.ts";

/** A listener of a test, with all that it holds open. */
export class FakePeer {
  readonly url: string;
  readonly #server: TcpServer;
  readonly #sockets: Set<Socket>;

  private constructor(server: TcpServer, sockets: Set<Socket>) {
    this.#server = server;
    this.#sockets = sockets;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static start(server: TcpServer): Promise<FakePeer> {
    const sockets = new Set<Socket>();
    server.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      socket.on("error", () => undefined);
    });
    return new Promise((resolve) => {
      server.listen(0, "127.0.0.1", () => resolve(new FakePeer(server, sockets)));
    });
  }

  stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
    });
  }
}

/** How a `lossyPeer` treats the batches that pass. */
export interface Loss {
  /** Answers to batches with writes that are still to be lost: the peer has carried them out. */
  answers: number;
  /** Takes writes' identities away, for negative controls. */
  stripsIdentities: boolean;
  /** Batches with writes that reached the peer. */
  writes: number;
}

/** Passes link batches on to the peer at `url`. */
export function lossyPeer(url: string, loss: Loss): Promise<FakePeer> {
  const pass = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const frames = decodeCallBatch(Uint8Array.from(Buffer.concat(parts)));
    const write = frames.some((frame) => frame.kind === "call" && isLinkWrite(frame.request));
    const sent = frames.map((frame) =>
      frame.kind === "call" && loss.stripsIdentities ? { ...frame, identity: undefined } : frame,
    );
    const answer = await fetch(url + (request.url ?? ""), {
      method: "POST",
      headers: { "content-type": "application/cbor" },
      body: Uint8Array.from(joinFrames(sent.map(encodeCallFrame))),
    });
    const body = new Uint8Array(await answer.arrayBuffer());
    if (write) loss.writes += 1;
    if (write && loss.answers > 0) {
      loss.answers -= 1;
      response.destroy();
      return;
    }
    response.writeHead(answer.status, { "content-type": "application/cbor" });
    response.end(body);
  };
  return FakePeer.start(
    createServer((request, response) => {
      // The peer is gone: so is its answer.
      pass(request, response).catch(() => response.destroy());
    }),
  );
}
