/**
 * One port for HTTP/2 and HTTP/1.1. With TLS, ALPN chooses; otherwise the first octets do: HTTP/2
 * by prior knowledge begins with its preface, and no HTTP/1.1 method begins like it. A port can serve
 * both, with TLS and without: a handshake's first octet begins no request. HTTP/1.1 sockets, and with
 * them WebSocket upgrades, go to a `node:http` server with what was already read. The h2c upgrade,
 * which RFC 9113 removed, is not offered.
 */
import type { EventEmitter } from "node:events";
import type { Server as Http1Server } from "node:http";
import {
  createServer,
  type AddressInfo,
  type ListenOptions,
  type Server,
  type Socket,
} from "node:net";
import {
  createServer as createTlsServer,
  type SecureContextOptions,
  type Server as TlsServer,
} from "node:tls";
import type { TLSSocket, TlsOptions } from "node:tls";
import { assert } from "../../shared/base/assert.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import { Http2Connection, type ConnectionOptions } from "./connection.ts";
import { PREFACE } from "./protocol.ts";
import { refuseUpgrade } from "../http/upgrade.ts";
import type { Http2Stream, StreamListener } from "./stream.ts";

export interface Http2ServerOptions {
  /** A request over HTTP/2 has begun. */
  onStream(stream: Http2Stream, connection: Http2Connection): StreamListener;
  /**
   * Serves connections that don't speak HTTP/2. It is not listening itself; `close` ends its
   * connections too.
   */
  readonly http1: Http1Server;
  /** Set for a TLS port; ALPN is the server's. */
  readonly tls?: TlsOptions;
  /** A TLS port takes callers without TLS, too. They are never asked who they are. */
  readonly takesPlain?: boolean;
  /** Asked once the handshake is done: undefined lets the caller in, a text refuses it. */
  admit?(socket: TLSSocket): Promise<string | undefined>;
  /** A caller was refused, or its handshake failed. */
  onRefused?(socket: TLSSocket, reason: string): void;
  /** SETTINGS_MAX_CONCURRENT_STREAMS (etcd: --max-concurrent-streams). */
  readonly streamsMax?: number;
  readonly keepaliveSeconds?: number;
  readonly keepaliveTimeoutSeconds?: number;
  /** Errors of the listening socket, for the log. */
  onError?(error: Error): void;
}

/** Octets after which HTTP/1.1 is out: methods begin with "PR" (PROPFIND) but none with "PRI". */
const SNIFFED_BYTES = 3;

/** A TLS handshake's first octet: the record's type. */
const TLS_HANDSHAKE = 0x16;

/** Replies leave when they are written; a client whose machine is gone is noticed by the kernel. */
const SOCKET_OPTIONS = {
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: LIMITS.tcpKeepaliveSeconds * 1000,
} as const;

export class Http2Server {
  /** The one that listens. */
  readonly #server: Server;
  readonly #tls: TlsServer | undefined;
  readonly #http1: Http1Server;
  readonly #options: Http2ServerOptions;
  readonly #connectionOptions: ConnectionOptions;
  readonly #connections = new Set<Http2Connection>();
  /** Sockets whose first octets are awaited, and since how many seconds. */
  readonly #undecided = new Map<Socket, number>();
  readonly #sweeper: NodeJS.Timeout;
  #isClosing = false;

  constructor(options: Http2ServerOptions) {
    this.#http1 = options.http1;
    this.#options = options;
    this.#connectionOptions = {
      onStream: (stream, connection) => options.onStream(stream, connection),
      onClose: (connection) => this.#connections.delete(connection),
      held: { bytes: 0 },
      streamsMax: Math.min(options.streamsMax ?? LIMITS.http2StreamsMax, LIMITS.http2StreamsMax),
      keepaliveSeconds: options.keepaliveSeconds ?? LIMITS.http2KeepaliveSeconds,
      keepaliveTimeoutSeconds:
        options.keepaliveTimeoutSeconds ?? LIMITS.http2KeepaliveTimeoutSeconds,
    };
    this.#tls = options.tls === undefined ? undefined : this.#secure(options.tls);
    this.#server =
      this.#tls === undefined || options.takesPlain === true ? this.#plain() : this.#tls;
    this.#sweeper = setInterval(() => this.#sweep(), 1000);
    this.#sweeper.unref();
    // A server that doesn't listen itself starts its checks for slow requests with this event.
    this.#http1.emit("listening");
  }

  #plain(): Server {
    return createServer(SOCKET_OPTIONS, (socket) => this.#sniff(socket, this.#tls));
  }

  #secure(tls: TlsOptions): TlsServer {
    const server = createTlsServer({
      ...tls,
      ...SOCKET_OPTIONS,
      ALPNProtocols: ["h2", "http/1.1"],
      handshakeTimeout: LIMITS.http2HandshakeSeconds * 1000,
    });
    server.on("secureConnection", (socket: TLSSocket) => void this.#admit(socket));
    const midway = new WeakSet<TLSSocket>();
    // The one event of a handshake under way that names its socket; the keys are nobody's business.
    server.on("keylog", (_keys, socket: TLSSocket) => {
      if (midway.has(socket) || socket.remoteAddress === undefined) return;
      // That this was read once keeps it for the log, when the socket is gone.
      midway.add(socket);
    });
    server.on("tlsClientError", (error, socket) => {
      this.#options.onRefused?.(socket, handshakeFault(error, midway.has(socket)));
      socket.destroy();
    });
    return server;
  }

  async #admit(socket: TLSSocket): Promise<void> {
    if (this.#options.admit !== undefined) {
      // Until the answer is there nobody else listens for them.
      const ignore = (): void => {};
      socket.on("error", ignore);
      const refusal = await this.#options.admit(socket).catch((error: unknown) => String(error));
      socket.off("error", ignore);
      if (socket.destroyed) return;
      if (refusal !== undefined) return this.#refuse(socket, refusal);
    }
    if (socket.alpnProtocol === "h2") this.#serveHttp2(socket);
    else this.#sniff(socket);
  }

  #refuse(socket: TLSSocket, reason: string): void {
    this.#options.onRefused?.(socket, reason);
    socket.on("error", () => {});
    if (socket.alpnProtocol === "h2") socket.destroy();
    else refuseUpgrade(socket, 403, `tls: bad certificate: ${reason}`);
  }

  /** Replaces the certificate of a TLS port; connections that exist keep theirs. */
  setSecureContext(context: SecureContextOptions): void {
    assert(this.#tls !== undefined, "only a TLS port has a certificate");
    this.#tls.setSecureContext(context);
  }

  get connectionCount(): number {
    return this.#connections.size;
  }

  /**
   * Rejects when the address can't be bound. Later errors (no descriptors left to accept with) go
   * to `onError`.
   */
  listen(options: ListenOptions): Promise<AddressInfo> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(options, () => {
        this.#server.off("error", reject).on("error", (error) => this.#options.onError?.(error));
        resolve(this.#server.address() as AddressInfo);
      });
    });
  }

  /**
   * Stops: no more connections, GOAWAY to those that exist, and an end to each when its streams
   * are done. What is left after the grace is destroyed.
   */
  async close(graceMilliseconds: number): Promise<void> {
    if (this.#isClosing) return;
    this.#isClosing = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of this.#connections) connection.shutdown();
    for (const socket of this.#undecided.keys()) socket.destroy();
    this.#http1.close();
    const timer = setTimeout(() => this.#destroyAll(), graceMilliseconds);
    await closed;
    clearTimeout(timer);
    clearInterval(this.#sweeper);
  }

  #destroyAll(): void {
    for (const connection of this.#connections) connection.destroy();
    this.#http1.closeAllConnections();
  }

  /** `tls`: who takes a handshake. */
  #sniff(socket: Socket, tls?: TlsServer): void {
    this.#undecided.set(socket, 0);
    let first: Buffer | undefined;
    const forget = (): void => {
      this.#undecided.delete(socket);
      socket.destroy();
    };
    const decide = (chunk: Buffer): void => {
      first = first === undefined ? chunk : Buffer.concat([first, chunk]);
      const length = Math.min(first.length, SNIFFED_BYTES);
      const isHttp2 = PREFACE.subarray(0, length).equals(first.subarray(0, length));
      if (isHttp2 && length < SNIFFED_BYTES) return;
      this.#undecided.delete(socket);
      socket.off("data", decide).off("end", forget).off("error", forget).off("close", forget);
      if (isHttp2) this.#serveHttp2(socket).receive(first);
      else if (first[0] === TLS_HANDSHAKE && tls !== undefined) handOver(socket, first, tls);
      else this.#serveHttp1(socket, first);
    };
    socket.on("data", decide).on("end", forget).on("error", forget).on("close", forget);
  }

  #serveHttp2(socket: Socket): Http2Connection {
    const connection = new Http2Connection(socket, this.#connectionOptions);
    this.#connections.add(connection);
    if (this.#isClosing) connection.shutdown();
    return connection;
  }

  #serveHttp1(socket: Socket, first: Buffer): void {
    handOver(socket, first, this.#http1);
    socket.resume();
  }

  #sweep(): void {
    for (const connection of this.#connections) connection.sweep();
    for (const [socket, seconds] of this.#undecided) {
      if (seconds >= LIMITS.http2HandshakeSeconds) socket.destroy();
      else this.#undecided.set(socket, seconds + 1);
    }
  }
}

/** To a server that doesn't listen itself, with what was already read. */
function handOver(socket: Socket, first: Buffer, server: EventEmitter): void {
  socket.pause();
  socket.unshift(first);
  server.emit("connection", socket);
}

/** Why a handshake failed, in Go's words where the caller ended it: they are what etcd's tools look for. */
function handshakeFault(error: NodeJS.ErrnoException, hasSeenCertificate: boolean): string {
  const alert = /^ERR_SSL_(?:SSLV3|TLSV1|TLSV13)_ALERT_(\w+)$/.exec(error.code ?? "")?.[1];
  if (alert !== undefined) return `remote error: tls: ${alert.toLowerCase().replaceAll("_", " ")}`;
  // Node's TLS, and so a member that won't have this certificate, hangs up without an alert.
  if (hasSeenCertificate && error.code === "ECONNRESET") {
    return "remote error: tls: bad certificate: the caller hung up on it";
  }
  return error.message;
}
