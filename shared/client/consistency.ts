/**
 * How fresh a read must be, and what a client has seen so far. A session's token is the revision
 * that its reads must have reached; it may be handed to another client, who then sees at least as
 * much.
 */
import { RpcError } from "../api/errors.ts";
import type { Freshness } from "../wire/link.ts";

/**
 * - linearizable (the default): as if done at one moment between call and answer, for everybody.
 * - session: at least what this client has written and seen, and what the tokens that it was given say.
 * - bounded: less than `maxAgeMilliseconds` behind the cluster, by the clock of the peer that answers.
 * - serializable: the state of whoever is asked, however old.
 */
export type Consistency =
  | "linearizable"
  | "session"
  | "serializable"
  | { readonly maxAgeMilliseconds: number };

/** What the views of a client have seen, together. */
export class SessionMark {
  #revision = 0;

  get revision(): number {
    return this.#revision;
  }

  /** To be handed on as text, or to be kept over a restart. */
  get token(): string {
    return String(this.#revision);
  }

  saw(revision: number): void {
    if (revision > this.#revision) this.#revision = revision;
  }

  join(token: string): void {
    const revision = /^\d{1,16}$/.test(token) ? Number(token) : Number.NaN;
    if (!Number.isSafeInteger(revision)) {
      throw new RpcError("invalidArgument", `${JSON.stringify(token)} is no session token`);
    }
    this.saw(revision);
  }
}

/** What the link is asked for. */
export function readLevel(
  consistency: Consistency,
  session: SessionMark,
): { readonly serializable: boolean; readonly fresh?: Freshness } {
  if (consistency === "linearizable") return { serializable: false };
  if (consistency === "serializable") return { serializable: true };
  if (consistency === "session") {
    return { serializable: true, fresh: { atLeastRevision: session.revision } };
  }
  const { maxAgeMilliseconds } = consistency;
  return { serializable: true, fresh: { maxAgeMilliseconds } };
}
