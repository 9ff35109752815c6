/**
 * A TCP proxy before a listener of this machine. It can go silent: connections stay, nothing passes.
 * It can cut connections that have carried a given number of bytes.
 * Members send to each other only on connections that they dialled, so that a silent proxy before
 * one's peer port leaves it able to speak and unable to hear. And it can put a distance between the
 * two ends: bytes leave so long after they came, in order, and a new connection's first ones wait
 * for the handshake, which takes a round trip.
 */
import { connect as dial, createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";

export class TcpProxy {
  readonly port: number;
  /** How long bytes are under way, in each direction; may be set at any time. */
  delayMilliseconds: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #silent = false;
  #cuts = { afterBytes: 0, count: 0 };

  private constructor(server: Server, delayMilliseconds: number) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    this.delayMilliseconds = delayMilliseconds;
  }

  /** `to`: host:port. */
  static start(to: string, delayMilliseconds = 0): Promise<TcpProxy> {
    const [host = "", port = ""] = to.split(":");
    const server = createServer();
    return new Promise((resolve) => {
      server.listen(0, "127.0.0.1", () => {
        const proxy = new TcpProxy(server, delayMilliseconds);
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

  /**
   * The next `count` connections that have carried so many bytes to the listener end there; the last
   * of these bytes may or may not have arrived.
   */
  cut(cuts: { readonly afterBytes: number; readonly count: number }): void {
    this.#cuts = { ...cuts };
  }

  /** How many connections are still to be cut. */
  get cutsLeft(): number {
    return this.#cuts.count;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  #join(client: Socket, server: Socket): void {
    client.setNoDelay();
    server.setNoDelay();
    let carried = 0;
    client.on("data", (chunk: Buffer) => {
      carried += chunk.length;
      if (this.#cuts.count === 0 || carried < this.#cuts.afterBytes || client.destroyed) return;
      this.#cuts.count -= 1;
      client.destroy();
      server.destroy();
    });
    const opened = performance.now() + 2 * this.delayMilliseconds;
    const pairs = [
      [client, server, new Way(opened)],
      [server, client, new Way(0)],
    ] as const;
    for (const [from, to, way] of pairs) {
      this.#sockets.add(from);
      from.on("data", (chunk: Buffer) => {
        if (!this.#silent) way.after(this.delayMilliseconds, () => to.write(chunk));
      });
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#sockets.delete(from);
        way.after(this.delayMilliseconds, () => to.destroy());
      });
    }
  }
}

/** One direction of a connection: what happens on it happens in order. */
class Way {
  readonly #opened: number;
  readonly #queue: { readonly at: number; readonly act: () => void }[] = [];

  /** Nothing sets out before `opened`. */
  constructor(opened: number) {
    this.#opened = opened;
  }

  /** At once, within the call, when there is no delay and nothing before it waits. */
  after(delayMilliseconds: number, act: () => void): void {
    const now = performance.now();
    const at = Math.max(now, this.#opened) + delayMilliseconds;
    if (at <= now && this.#queue.length === 0) return act();
    this.#queue.push({ at, act });
    if (this.#queue.length === 1) this.#arm(at - now);
  }

  #arm(milliseconds: number): void {
    setTimeout(() => this.#run(), Math.ceil(milliseconds));
  }

  #run(): void {
    for (let [next] = this.#queue; next !== undefined; [next] = this.#queue) {
      const wait = next.at - performance.now();
      if (wait > 0) return this.#arm(wait);
      this.#queue.shift();
      next.act();
    }
  }
}
