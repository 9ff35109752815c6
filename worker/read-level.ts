/**
 * How a read wants to be answered: `consistency=` linearizable (the default), session (at least as
 * new as the token of an earlier answer, in `session=` or the header X-Quorate-Session), bounded
 * (at most `maxAge=` milliseconds behind the cluster) or serializable (whatever a peer has).
 */
import type { ReadOptions } from "../shared/client/store.ts";
import type { Params } from "./params.ts";
import { HttpError } from "./problem.ts";
import { sessionOf } from "./served.ts";
import type { SessionToken } from "./served.ts";

export const LEVELS = ["linearizable", "session", "bounded", "serializable"] as const;
export const SESSION_HEADER = "x-quorate-session";

export interface ReadLevel {
  readonly name: (typeof LEVELS)[number];
  readonly options: Pick<ReadOptions, "consistency">;
  /** What a session has seen; undefined: nothing yet. */
  readonly token: SessionToken | undefined;
}

export function readLevelOf(params: Params, request: Request): ReadLevel {
  const flag = params.flag("serializable") ? "serializable" : undefined;
  const named = params.oneOf("consistency", LEVELS);
  if (flag !== undefined && named !== undefined && named !== flag) {
    throw new HttpError(400, `serializable and consistency=${named} contradict each other`);
  }
  const name = named ?? flag ?? "linearizable";
  const maxAgeMilliseconds = params.count("maxAge");
  if ((name === "bounded") !== (maxAgeMilliseconds !== undefined)) {
    throw new HttpError(400, "consistency=bounded and maxAge=<milliseconds> go together");
  }
  const given = params.text("session");
  if (given !== undefined && name !== "session") {
    throw new HttpError(400, "session=<token> goes with consistency=session");
  }
  switch (name) {
    case "linearizable":
    case "serializable":
      return { name, options: { consistency: name }, token: undefined };
    case "bounded": {
      const consistency = { maxAgeMilliseconds: maxAgeMilliseconds ?? 0 };
      return { name, options: { consistency }, token: undefined };
    }
    case "session": {
      const text = given ?? request.headers.get(SESSION_HEADER);
      const token = text === null || text === undefined ? undefined : sessionOf(text);
      return { name, options: { consistency: name }, token };
    }
  }
}
