/**
 * The edge worker in local workerd, for `npm start`: the Worker that `wrangler deploy` publishes,
 * built by wrangler from `wrangler.toml`, with the peers' addresses as its variables.
 */
import { join, resolve } from "node:path";
import { unstable_startWorker as startWorker } from "wrangler";

const ROOT = resolve(import.meta.dirname, "..", "..");

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export interface RunningEdge {
  stop(): Promise<void>;
}

/** Resolves once it serves on 127.0.0.1:`port`. Durable Objects keep their data in `dataDir`. */
export async function startEdge(options: {
  readonly port: number;
  /** Base URLs of the peers' client ports. */
  readonly peers: readonly string[];
  readonly dataDir: string;
  /** Further variables of the Worker, as `worker/config.ts` names them. */
  readonly variables?: Readonly<Record<string, string>>;
}): Promise<RunningEdge> {
  // wrangler asks nobody and tells nobody anything.
  process.env["WRANGLER_SEND_METRICS"] = "false";
  process.env["CI"] ??= "true";
  const ours = SIGNALS.map((signal) => process.listeners(signal));
  const worker = await startWorker({
    config: join(ROOT, "wrangler.toml"),
    bindings: Object.fromEntries(
      Object.entries({ ...options.variables, QUORATE_PEERS: options.peers.join(",") }).map(
        ([name, value]) => [name, { type: "plain_text", value }],
      ),
    ),
    dev: {
      server: { hostname: "127.0.0.1", port: options.port },
      inspector: false,
      watch: false,
      persist: options.dataDir,
      logLevel: "error",
    },
  });
  await worker.ready;
  // Its handlers of signals end the process at once, before the members have stopped; ours stop it
  // too.
  for (const [position, signal] of SIGNALS.entries()) {
    for (const listener of process.listeners(signal)) {
      if (ours[position]?.includes(listener) !== true) process.removeListener(signal, listener);
    }
  }
  return { stop: () => worker.dispose() };
}
