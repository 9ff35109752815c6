/**
 * Permissions on a link through the edge: who speaks, by the token in its hello or beside the
 * request, and which of its frames may go on to a peer. What may not is answered here, as a peer
 * would refuse it. The peers see the edge's own hello, never a caller's token.
 */
import { RpcError } from "../shared/api/errors.ts";
import { WireError } from "../shared/wire/cbor.ts";
import type { LinkCallFrame, LinkFailure, LinkReplyFrame } from "../shared/wire/link.ts";
import { grantOfToken } from "./access.ts";
import { admit, admitWatch, checkExpiry } from "./auth/grant.ts";
import type { Grant } from "./auth/grant.ts";
import type { EdgeConfig } from "./config.ts";

type Hello = LinkCallFrame & { readonly kind: "hello" };

export interface Sorted {
  /** For the peer, in order. */
  readonly onward: readonly LinkCallFrame[];
  /** For the caller: what was refused here. */
  readonly replies: readonly LinkReplyFrame[];
}

export class LinkGuard {
  readonly #config: EdgeConfig;
  #grant: Grant | undefined;
  #greeted = false;

  /** `grant`: of the request that opened the link; undefined: the hello must show a token. */
  constructor(config: EdgeConfig, grant: Grant | undefined) {
    this.#config = config;
    this.#grant = grant;
  }

  get greeted(): boolean {
    return this.#greeted;
  }

  /** Checks a link's first frame; the hello for the peer. Throws `WireError`, or 401. */
  async greet(frame: LinkCallFrame | undefined): Promise<Hello> {
    if (frame?.kind !== "hello") throw new WireError("a link begins with hello");
    if (this.#grant === undefined || frame.token !== "") {
      this.#grant = await grantOfToken(frame.token, this.#config);
    }
    this.#greeted = true;
    return { ...frame, token: this.#config.secret ?? "" };
  }

  /** Frames after the hello. Throws 401 once the token has expired. */
  sort(frames: readonly LinkCallFrame[], now: number): Sorted {
    const grant = this.#grant;
    if (grant === undefined) throw new WireError("a link begins with hello");
    checkExpiry(grant, now);
    if (grant.admin) return { onward: frames, replies: [] };
    const onward: LinkCallFrame[] = [];
    const replies: LinkReplyFrame[] = [];
    for (const frame of frames) {
      try {
        onward.push(admitFrame(grant, frame));
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        const failure = failureOf(error);
        if (frame.kind === "call") {
          replies.push({ kind: "error", id: frame.id, failure });
        } else if (frame.kind === "watchCreate") {
          // The stream was opened at the peer: it ends at both sides.
          onward.push({ kind: "watchClose", stream: frame.stream });
          replies.push({ kind: "watchEnd", stream: frame.stream, failure });
        }
      }
    }
    return { onward, replies };
  }

  /** What a peer pushes reaches no caller whose token has expired. */
  checkExpiry(now: number): void {
    if (this.#grant !== undefined) checkExpiry(this.#grant, now);
  }
}

function admitFrame(grant: Grant, frame: LinkCallFrame): LinkCallFrame {
  if (frame.kind === "call")
    return { ...frame, request: admit(grant, frame.request, frame.identity) };
  if (frame.kind === "watchCreate") admitWatch(grant, frame.create);
  return frame;
}

function failureOf({ status, message, code, outcome, retryable }: RpcError): LinkFailure {
  return { status, message, code, outcome, retryable };
}
