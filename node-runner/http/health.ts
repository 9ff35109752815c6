/**
 * /health, /livez and /readyz with etcd's paths, parameters and texts. Checks ask the peer's
 * services: what they answer is what a client would get now.
 */
import type { Hono } from "hono";
import { EMPTY } from "../../shared/base/bytes.ts";
import { FIRST_KEY, wholeRange } from "../../shared/mvcc/types.ts";
import type { CallContext, PeerStatus, Services } from "../../shared/peer/services.ts";
import { addGetRoute } from "./get-route.ts";

/** A check waits this long for its read: a probe must not hang with the cluster. */
const CHECK_MILLISECONDS = 5000;

const CALL: CallContext = {
  timeoutMilliseconds: CHECK_MILLISECONDS,
  requireLeader: false,
  onCancel: () => undefined,
};

interface Check {
  readonly name: string;
  /** Throws with the reason when it fails. */
  run(): Promise<void>;
}

export function addHealthRoutes(app: Hono, services: Services): void {
  addGetRoute(app, "/health", async (context) => {
    const reason = await healthProblem(services, {
      serializable: context.req.query("serializable") === "true",
      excluded: new Set(context.req.queries("exclude") ?? []),
    });
    const health = reason === "" ? "true" : "false";
    return context.json({ health, reason }, reason === "" ? 200 : 503);
  });
  addChecks(app, "/livez", [serializableRead(services)]);
  addChecks(app, "/readyz", [
    dataCorruption(services),
    serializableRead(services),
    linearizableRead(services),
    nonLearner(services),
  ]);
}

/** Why the member is not healthy, in etcd's words and order; empty: it is. */
async function healthProblem(
  services: Services,
  options: { serializable: boolean; excluded: ReadonlySet<string> },
): Promise<string> {
  const status = await services.maintenance.status(CALL);
  for (const { alarm } of status.alarms) {
    const name = alarm.toUpperCase();
    if (!options.excluded.has(name)) return `ALARM ${name}`;
  }
  if (!options.serializable && status.leader === 0n) return "RAFT NO LEADER";
  try {
    await readNothing(services, options.serializable);
    return "";
  } catch (error) {
    return `RANGE ERROR:${messageOf(error)}`;
  }
}

function addChecks(app: Hono, path: string, checks: readonly Check[]): void {
  addGetRoute(app, path, (context) => {
    const excluded = new Set(context.req.queries("exclude") ?? []);
    const verbose = context.req.query("verbose") !== undefined;
    return answer(
      path,
      checks.filter(({ name }) => !excluded.has(name)),
      verbose,
    );
  });
  for (const check of checks) {
    const own = `${path}/${check.name}`;
    addGetRoute(app, own, () => answer(own, [check], false));
  }
}

async function answer(path: string, checks: readonly Check[], verbose: boolean): Promise<Response> {
  const results = await Promise.all(
    checks.map(async (check) => {
      try {
        await check.run();
        return { name: check.name, problem: undefined };
      } catch (error) {
        return { name: check.name, problem: messageOf(error) };
      }
    }),
  );
  const healthy = results.every(({ problem }) => problem === undefined);
  const lines = results.map(({ name, problem }) =>
    problem === undefined ? `[+]${name} ok` : `[-]${name} failed: ${problem}`,
  );
  const text =
    healthy && !verbose ? "ok" : [...lines, healthy ? "ok" : `${path} check failed`].join("\n");
  return new Response(`${text}\n`, {
    status: healthy ? 200 : 503,
    headers: { "content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff" },
  });
}

function serializableRead(services: Services): Check {
  return { name: "serializable_read", run: () => readNothing(services, true) };
}

function linearizableRead(services: Services): Check {
  return { name: "linearizable_read", run: () => readNothing(services, false) };
}

function dataCorruption(services: Services): Check {
  return {
    name: "data_corruption",
    run: async () => {
      const { alarms } = await services.maintenance.status(CALL);
      if (alarms.some(({ alarm }) => alarm === "corrupt"))
        throw new Error("alarm activated: CORRUPT");
    },
  };
}

function nonLearner(services: Services): Check {
  return {
    name: "non_learner",
    run: async () => {
      const status: PeerStatus = await services.maintenance.status(CALL);
      if (status.isLearner) throw new Error("learner");
    },
  };
}

/** A read as a client would send it, of a key that need not exist. */
async function readNothing(services: Services, serializable: boolean): Promise<void> {
  await services.kv.range(
    { ...wholeRange(FIRST_KEY, EMPTY), limit: 1, keysOnly: true },
    { serializable },
    CALL,
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
