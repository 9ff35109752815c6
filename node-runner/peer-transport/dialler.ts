/**
 * Connects to another member's peer URL and says hello. What comes back is a link on which frames may be sent, or an
 * error; reconnecting is the caller's affair.
 */
import type { ConnectionOptions } from "node:tls";
import { WebSocket } from "ws";
import { LIMITS } from "../../shared/base/limits.ts";
import { CLOSE, PEER_PATH } from "../../shared/peer/links/frame-link.ts";
import type { PeerIdentity } from "../../shared/peer/links/hello-check.ts";
import { PEER_VERSION, PEER_VERSION_MIN } from "../../shared/wire/peer-codec.ts";
import type { PeerFrame, PeerHello } from "../../shared/wire/peer-codec.ts";
import { FrameSocket } from "./frame-socket.ts";

export interface DialOptions {
  readonly identity: PeerIdentity;
  readonly to: bigint;
  /** `http:` or `https:` with host and port, as the membership lists it. */
  readonly url: string;
  readonly purpose: PeerHello["purpose"];
  /** Bytes of one frame. */
  readonly frameBytesMax: number;
  /** TLS options (`ca`, `cert`, `key`, ...) for `https:`, as of now. */
  readonly tls: () => ConnectionOptions;
  /** `version`: what the link speaks, as the listener chose it. */
  readonly onReady: (link: FrameSocket, version: number) => void;
  readonly onFrame: (frame: PeerFrame) => void;
  /** Once, also when the connection never came to be. */
  readonly onClose: (code: number, reason: string) => void;
}

/** Of the text with which the other side refuses an upgrade, in UTF-16 units. */
const REFUSAL_LENGTH_MAX = 500;

/** Returns a function that gives the attempt, or the link, up. */
export function dial(options: DialOptions): () => void {
  const { identity } = options;
  let closed = false;
  const onClose = (code: number, reason: string): void => {
    if (closed) return;
    closed = true;
    options.onClose(code, reason);
  };
  const socket = new WebSocket(peerAddress(options.url), {
    // Handed through to `tls.connect`; the types of `ws` differ from Node's on one function.
    ...(options.tls() as object),
    perMessageDeflate: false,
    maxPayload: options.frameBytesMax,
    handshakeTimeout: LIMITS.peerIdleMillisecondsMax,
    followRedirects: false,
    // For doors that let nobody as far as the hello: the Worker before a member in a Durable Object.
    headers: identity.secret === "" ? {} : { authorization: `Bearer ${identity.secret}` },
    // Masks protect web proxies from scripts in browsers; between members they would only cost time.
    generateMask: (mask) => mask.fill(0),
  });
  const failed = (error: Error): void => onClose(0, error.message);
  const gone = (): void => onClose(0, "no connection");
  socket.once("error", failed);
  socket.once("close", gone);
  socket.once("unexpected-response", (_request, response) => {
    let text = "";
    response.setEncoding("utf8").on("data", (chunk: string) => {
      text = (text + chunk).slice(0, REFUSAL_LENGTH_MAX);
    });
    response.once("close", () => {
      onClose(0, text === "" ? `HTTP status ${response.statusCode}` : `remote error: ${text}`);
      socket.terminate();
    });
  });
  socket.once("open", () => {
    socket.off("error", failed);
    socket.off("close", gone);
    const ends = { from: options.to.toString(), to: identity.memberId.toString() };
    let welcomed = false;
    const link = new FrameSocket(socket, {
      ends,
      helloPending: false,
      bytesMax: options.frameBytesMax,
      events: {
        onFrame: (frame) => {
          if (welcomed) return options.onFrame(frame);
          if (frame.kind !== "welcome" || !speaks(frame.version)) {
            return link.close(CLOSE.protocol, "no welcome");
          }
          welcomed = true;
          options.onReady(link, frame.version);
        },
        onClose,
      },
    });
    link.send({ kind: "hello", hello: helloOf(options) });
  });
  return () => socket.terminate();
}

function helloOf({ identity, to, purpose }: DialOptions): PeerHello {
  return {
    version: identity.version ?? PEER_VERSION,
    versionMin: PEER_VERSION_MIN,
    cluster: identity.clusterId,
    from: identity.memberId,
    to,
    incarnation: identity.incarnation,
    purpose,
    secret: identity.secret,
  };
}

function speaks(version: number): boolean {
  return version >= PEER_VERSION_MIN && version <= PEER_VERSION;
}

/** Both `new URL` and `WebSocket` throw for malformed addresses: an unusable one leads nowhere instead. */
function peerAddress(url: string): URL {
  const parsed = URL.canParse(url) ? new URL(url) : new URL("http://127.0.0.1:0");
  const secure = parsed.protocol === "https:";
  return new URL(PEER_PATH, `${secure ? "wss" : "ws"}://${parsed.host}`);
}
