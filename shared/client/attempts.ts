/**
 * What is known of one call over several tries. A read is tried again as long as there is time. A
 * write that may have happened is tried again only under the same identity, and what its caller is
 * told in the end counts all tries: a later refusal says nothing about an earlier try whose answer
 * was lost.
 */
import { RpcError } from "../api/errors.ts";
import type { ErrorCode } from "../api/errors.ts";
import type { WriteIdentity } from "../wire/command.ts";
import type { LinkAnswer, LinkRequest } from "../wire/link.ts";
import { isLinkWrite } from "../wire/link-writes.ts";
import { mayRepeat, withOutcome } from "./caller.ts";
import type { CallOptions } from "./caller.ts";
import type { ClientPlatform } from "./platform.ts";
import type { WriteLanes } from "./write-lanes.ts";

/** What a call's tries have in common. */
export interface Bounds {
  /** By the platform's clock. */
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
}

/** Makes one call by `tries`, which gives up by itself at the deadline. */
export async function callByTries(
  request: LinkRequest,
  options: CallOptions,
  parts: {
    readonly lanes: WriteLanes;
    readonly platform: ClientPlatform;
    readonly timeoutMilliseconds: number;
  },
  tries: (attempts: Attempts, bounds: Bounds) => Promise<LinkAnswer>,
): Promise<LinkAnswer> {
  const { platform } = parts;
  const { signal, timeoutMilliseconds = parts.timeoutMilliseconds } = options;
  const attempts = new Attempts(request, parts);
  try {
    return await tries(attempts, { deadline: platform.now() + timeoutMilliseconds, signal });
  } finally {
    attempts.end();
  }
}

/** Refusals by the state machine, which remembers them: they tell of all tries of a write. */
const DECISIVE: readonly ErrorCode[] = [
  "leaseNotFound",
  "leaseExist",
  "keyNotFound",
  "compacted",
  "futureRev",
];

/** What to do after a failed try. */
export type AfterFailure =
  | { readonly kind: "again"; readonly error: RpcError }
  /** Nothing happened, and nothing will: the peers want a newer floor. */
  | { readonly kind: "newFloor"; readonly error: RpcError }
  | { readonly kind: "over"; readonly error: unknown };

export class Attempts {
  readonly write: boolean;
  readonly request: LinkRequest;
  readonly #lanes: WriteLanes;
  #identity: WriteIdentity | undefined;
  /** A try may have had its effect. */
  #uncertain = false;

  constructor(request: LinkRequest, parts: { readonly lanes: WriteLanes }) {
    this.write = isLinkWrite(request);
    this.#lanes = parts.lanes;
    this.request = request;
  }

  get uncertain(): boolean {
    return this.#uncertain;
  }

  /** The write's identity, the same for all tries; undefined for reads, and while no peer was heard. */
  identity(): WriteIdentity | undefined {
    if (this.write && !this.#uncertain) this.#identity ??= this.#lanes.begin();
    return this.#identity;
  }

  /** Every call ends here, however it went. */
  end(): void {
    if (this.#identity !== undefined) this.#lanes.end(this.#identity);
    this.#identity = undefined;
  }

  failed(error: unknown): AfterFailure {
    if (!(error instanceof RpcError)) return { kind: "over", error };
    if (error.code === "writeForgotten" && !this.#uncertain) {
      this.end();
      return { kind: "newFloor", error: withOutcome(error, "none") };
    }
    const late = error.status === "deadlineExceeded";
    const lost = error.status === "unavailable" || late;
    if (error.outcome === "unknown") {
      const repeatable = lost && this.#identity !== undefined;
      this.#uncertain = true;
      return { kind: repeatable ? "again" : "over", error };
    }
    const known = this.#told(error);
    return mayRepeat(error) || late
      ? { kind: "again", error: known }
      : { kind: "over", error: known };
  }

  /** The error of this try as an answer to the whole call. */
  #told(error: RpcError): RpcError {
    if (!this.#uncertain) return error;
    const decisive = error.code !== undefined && DECISIVE.includes(error.code);
    return decisive ? error : withOutcome(error, "unknown");
  }
}
