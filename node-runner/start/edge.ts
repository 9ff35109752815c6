/**
 * The edge worker in local workerd, for `npm start`: what `wrangler deploy` publishes, bundled from
 * the entry and with the bindings that `wrangler.toml` names, and the peers' addresses as its
 * variables. Miniflare runs it directly: the proxies of `wrangler dev` would double each request's
 * time.
 */
import { join, resolve } from "node:path";
import { build } from "esbuild";
import { Log, LogLevel, Miniflare, convertV4MiniflareOptions } from "miniflare";
import { unstable_getMiniflareWorkerOptions as miniflareWorkerOptions } from "wrangler";

const ROOT = resolve(import.meta.dirname, "..", "..");
const CONFIG = join(ROOT, "wrangler.toml");

/** As the runtime knows the Worker. */
export const WORKER_NAME = "edge";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export interface RunningEdge {
  /** Its runtime: the way to its Durable Objects. */
  readonly runtime: Miniflare;
  stop(): Promise<void>;
}

export interface EdgeOptions {
  readonly port: number;
  /** Base URLs of the peers' client ports; "durable": the Worker's own Durable Objects are the peers. */
  readonly peers: readonly string[] | "durable";
  readonly dataDir: string;
  /** Of the config; the default is the one that belongs to `peers`. */
  readonly environment?: string;
  /** A module to bundle in place of the config's `main`. */
  readonly entry?: string;
  /** Further variables of the Worker, as `worker/config.ts` names them. */
  readonly variables?: Readonly<Record<string, string>>;
}

/** Resolves once it serves on 127.0.0.1:`port`. Durable Objects keep their data in `dataDir`. */
export async function startEdge(options: EdgeOptions): Promise<RunningEdge> {
  // Neither asks anybody or tells anybody anything: there may be no network.
  process.env["WRANGLER_SEND_METRICS"] = "false";
  const ours = SIGNALS.map((signal) => process.listeners(signal));
  const { peers } = options;
  const isServerless = peers === "durable";
  const { environment = isServerless ? "serverless" : undefined } = options;
  const { workerOptions, main } = miniflareWorkerOptions(CONFIG, environment);
  const entry = options.entry ?? main;
  if (entry === undefined) throw new Error(`${CONFIG} names no main`);
  const bindings = workerOptions.bindings as Readonly<Record<string, string>>;
  const worker = new Miniflare(
    convertV4MiniflareOptions({
      host: "127.0.0.1",
      port: options.port,
      cf: false,
      log: new Log(LogLevel.ERROR),
      resourcePersistencePath: options.dataDir,
      workers: [
        {
          ...workerOptions,
          name: WORKER_NAME,
          modules: [{ type: "ESModule", path: "index.js", contents: await bundle(entry) }],
          bindings: {
            ...bindings,
            ...options.variables,
            ...(isServerless ? {} : { QUORATE_PEERS: peers.join(",") }),
          },
        },
      ],
    }),
  );
  try {
    await worker.ready;
  } catch (error) {
    await worker.dispose();
    throw error;
  }
  // Its handlers of signals end the process at once, before the members have stopped; ours stop it
  // too.
  for (const [position, signal] of SIGNALS.entries()) {
    for (const listener of process.listeners(signal)) {
      if (ours[position]?.includes(listener) !== true) process.removeListener(signal, listener);
    }
  }
  return { runtime: worker, stop: () => worker.dispose() };
}

/** One module, as wrangler bundles it. */
export async function bundle(entry: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2024",
    conditions: ["workerd", "worker", "browser"],
    external: ["cloudflare:*", "node:*"],
    logLevel: "silent",
  });
  const [file] = outputFiles;
  if (file === undefined) throw new Error(`esbuild made nothing of ${entry}`);
  return file.text;
}
