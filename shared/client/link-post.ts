/**
 * One batch to one endpoint by POST, and what its failure means. A connection that breaks under a
 * POST rarely tells whether the request had arrived: then a write's outcome is unknown.
 */
import { RpcError } from "../api/errors.ts";
import type { Bytes } from "../base/bytes.ts";
import { decodeReplyBatch, encodeCallFrame, joinFrames } from "../wire/link-codec.ts";
import { LINK_VERSION } from "../wire/link.ts";
import type { LinkCallFrame, LinkReplyFrame, LinkWelcome } from "../wire/link.ts";
import { cancelledError, deadlineError, errorOf } from "./caller.ts";
import { postUrl } from "./endpoints.ts";
import type { Greeting } from "./link-connection.ts";
import { limit } from "./platform.ts";
import type { ClientPlatform } from "./platform.ts";

export interface PostOptions {
  readonly greeting: Greeting;
  readonly timeoutMilliseconds: number;
  readonly signal: AbortSignal | undefined;
  /** The frames change the store if they arrive. */
  readonly write: boolean;
  heard(welcome: LinkWelcome): void;
}

/** The answer's frames after the welcome; `frames` may be none, to see whether somebody is there. */
export async function postFrames(
  platform: ClientPlatform,
  endpoint: string,
  frames: readonly LinkCallFrame[],
  options: PostOptions,
): Promise<readonly LinkReplyFrame[]> {
  const { write } = options;
  const { role, token } = options.greeting;
  const hello = { kind: "hello", version: LINK_VERSION, role, token } as const;
  const body = joinFrames([hello, ...frames].map(encodeCallFrame));
  const { status, answer } = await post(platform, postUrl(endpoint), { ...options, body });
  const outcome = write && mayHaveArrived(status) ? "unknown" : "none";
  if (status !== 200) {
    const name = status >= 500 ? "unavailable" : "failedPrecondition";
    throw new RpcError(name, `${endpoint} answered HTTP ${status} to a link batch`, { outcome });
  }
  let replies: readonly LinkReplyFrame[];
  try {
    replies = decodeReplyBatch(answer);
  } catch (cause) {
    const text = `${endpoint} does not speak the link protocol`;
    throw new RpcError("unavailable", text, { outcome, cause });
  }
  const bye = replies.find((frame) => frame.kind === "bye");
  if (bye !== undefined) throw errorOf(bye.failure);
  const [welcome, ...rest] = replies;
  if (welcome?.kind !== "welcome") return replies;
  options.heard(welcome);
  return rest;
}

async function post(
  platform: ClientPlatform,
  url: string,
  options: PostOptions & { readonly body: Bytes },
): Promise<{ status: number; answer: Bytes }> {
  const { body, signal, timeoutMilliseconds, write } = options;
  const { token } = options.greeting;
  // The hello says it too; an edge lets nothing in that doesn't show it in front.
  const bearer = token === "" ? {} : { authorization: `Bearer ${token}` };
  const aborter = new AbortController();
  const off = limit({ milliseconds: timeoutMilliseconds, signal }, () => aborter.abort());
  try {
    const response = await platform.fetch(url, {
      method: "POST",
      headers: { "content-type": "application/cbor", ...bearer },
      body,
      signal: aborter.signal,
    });
    return { status: response.status, answer: new Uint8Array(await response.arrayBuffer()) };
  } catch (cause) {
    if (signal?.aborted === true) throw cancelledError({ write, cause: signal.reason });
    if (aborter.signal.aborted) throw deadlineError({ write, cause });
    const text = cause instanceof Error ? cause.message : String(cause);
    const outcome = write && !neverSent(cause) ? "unknown" : "none";
    throw new RpcError("unavailable", text, { outcome, cause });
  } finally {
    off();
  }
}

/**
 * A refusal of the whole POST (4xx) comes before any of its calls is made. Cloudflare answers 521,
 * 522, 523, 525 and 526 when it could make no connection; any other 5xx may come from anywhere.
 */
function mayHaveArrived(status: number): boolean {
  return status === 200 || (status >= 500 && ![521, 522, 523, 525, 526].includes(status));
}

/**
 * Node says when no connection was made; other runtimes don't tell, and then the request may have
 * arrived.
 */
function neverSent(cause: unknown): boolean {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  return inner instanceof Error && "code" in inner && inner.code === "ECONNREFUSED";
}
