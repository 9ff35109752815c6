/**
 * One port of this process: HTTP/2 and HTTP/1.1 together on a configured address, plain or with
 * TLS. Callers that TLS refuses are told why as far as it can be told, and stand in the log.
 */
import type { Server as Http1Server } from "node:http";
import type { TLSSocket } from "node:tls";
import { urlOf, type ListenAddress } from "./config/url.ts";
import type { Http2Connection } from "./http2/connection.ts";
import { Http2Server, type Http2ServerOptions } from "./http2/server.ts";
import type { Http2Stream, StreamListener } from "./http2/stream.ts";
import type { Logger } from "./logger.ts";
import type { TlsIdentity } from "./tls/tls-identity.ts";

/** What listens, until it is closed. */
export interface Door {
  close(): Promise<void>;
}

export interface PortOptions {
  readonly address: ListenAddress;
  /** Who calls here, for the log. */
  readonly endpoint: "client" | "peer";
  readonly http1: Http1Server;
  onStream(stream: Http2Stream, connection: Http2Connection): StreamListener;
  readonly streamsMax?: number;
  /** With TLS: callers without it are served at the same address. */
  readonly takesPlain?: boolean;
  /** Pings to silent callers; undefined: as etcd does. */
  readonly keepalive?: { readonly milliseconds: number; readonly timeoutMilliseconds: number };
  /** For addresses with TLS. */
  readonly tls: TlsIdentity;
  readonly logger: Logger;
}

/** What is left of connections this long after the port closed is cut. */
const GRACE_MILLISECONDS = 300;

/** Rejects with a text that names the address when it can't be listened on. */
export async function openPort(options: PortOptions): Promise<Door> {
  const { address, logger, endpoint, http1, streamsMax, takesPlain } = options;
  const server = new Http2Server({
    http1,
    ...(streamsMax === undefined ? {} : { streamsMax }),
    onStream: (stream, connection) => options.onStream(stream, connection),
    ...(takesPlain === undefined ? {} : { takesPlain }),
    ...(options.keepalive === undefined ? {} : keepaliveOf(options.keepalive)),
    ...(address.tls ? secured(options) : {}),
  });
  if (address.tls) options.tls.onChange((changed) => server.setSecureContext(changed));
  try {
    await server.listen(
      address.kind === "unix" ? { path: address.path } : { host: address.host, port: address.port },
    );
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`can't listen on ${urlOf(address)}: ${reason}`, { cause });
  }
  logger.report("info", `serving ${endpoint} traffic`, { address: urlOf(address) });
  return { close: () => server.close(GRACE_MILLISECONDS) };
}

/** In the server's whole seconds; no interval: never. */
function keepaliveOf({
  milliseconds,
  timeoutMilliseconds,
}: NonNullable<PortOptions["keepalive"]>): Pick<
  Http2ServerOptions,
  "keepaliveSeconds" | "keepaliveTimeoutSeconds"
> {
  return {
    keepaliveSeconds: milliseconds === 0 ? Infinity : Math.ceil(milliseconds / 1000),
    keepaliveTimeoutSeconds: Math.max(1, Math.ceil(timeoutMilliseconds / 1000)),
  };
}

function secured(options: PortOptions): Pick<Http2ServerOptions, "tls" | "admit" | "onRefused"> {
  const { tls, endpoint, logger } = options;
  return {
    tls: tls.serverOptions,
    admit: (socket) => tls.admit(socket),
    onRefused: (socket: TLSSocket, error) =>
      logger.report("warn", `rejected connection on ${endpoint} endpoint`, {
        "remote-addr": addressOf(socket),
        "server-name": socket.servername || "",
        error,
      }),
  };
}

/** Empty when the caller was gone before it was asked. */
function addressOf({ remoteAddress, remotePort }: TLSSocket): string {
  return remoteAddress === undefined ? "" : `${remoteAddress}:${remotePort}`;
}
