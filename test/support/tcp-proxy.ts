/**
 * A TCP proxy before a listener of this machine, which can go silent: connections stay, nothing
 * passes. Members send to each other only on connections that they dialled, so that a silent proxy
 * before one's peer port leaves it able to speak and unable to hear.
 */
import { connect as dial, createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";

export class TcpProxy {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #silent = false;

  private constructor(server: Server) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
  }

  /** `to`: host:port. */
  static start(to: string): Promise<TcpProxy> {
    const [host = "", port = ""] = to.split(":");
    const server = createServer();
    return new Promise((resolve) => {
      server.listen(0, "127.0.0.1", () => {
        const proxy = new TcpProxy(server);
        server.on("connection", (client: Socket) => proxy.#join(client, dial(Number(port), host)));
        resolve(proxy);
      });
    });
  }

  /** From now on nothing passes, in either direction. */
  silence(): void {
    this.#silent = true;
  }

  /** Lets pass again; the connections that lost bytes end. */
  heal(): void {
    if (!this.#silent) return;
    this.#silent = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  #join(client: Socket, server: Socket): void {
    const pairs = [
      [client, server],
      [server, client],
    ] as const;
    for (const [from, to] of pairs) {
      this.#sockets.add(from);
      from.on("data", (chunk: Buffer) => {
        if (!this.#silent) to.write(chunk);
      });
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }
}
