/**
 * The edge in local workerd with a replica of all keys, as `watchers.ts` measures it: with V8's inspector open, and
 * either the Worker at its port, or a Worker that passes every request on to the replica's object.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Log, LogLevel, Miniflare, convertV4MiniflareOptions } from "miniflare";
import { unstable_getMiniflareWorkerOptions as miniflareWorkerOptions } from "wrangler";
import { WebSocket } from "ws";
import { bundle } from "../../node-runner/start/edge.ts";
import { freePorts } from "../support/ports.ts";
import { makeTempDir, removeTempDir } from "../support/temp-dir.ts";
import { usageOfAll } from "./process-usage.ts";

export interface Memory {
  /** Of the isolate that has the object: V8's heap with array buffers and what its objects hold outside. */
  readonly isolateBytes: number;
  /** What the process allocated itself. */
  readonly processBytes: number;
}

const ROOT = join(import.meta.dirname, "..", "..");
const REPLICA = "replica:quorate:enam:*";
const REPLICA_MILLISECONDS_MAX = 60_000;

/** Passes requests straight to the object; it has an isolate of its own. */
const FRONT = `export default {
  fetch(request, env) {
    const stub = env.REPLICA.get(env.REPLICA.idFromName(${JSON.stringify(REPLICA)}));
    return stub.fetch(new Request("http://replica/front/link", request));
  },
};`;

export class WatchedEdge {
  readonly url: string;
  readonly #runtime: Miniflare;
  readonly #inspector: Inspector;
  readonly #pid: number;
  readonly #dataDir: string;

  private constructor(
    url: string,
    parts: { runtime: Miniflare; inspector: Inspector; pid: number; dataDir: string },
  ) {
    this.url = url;
    this.#runtime = parts.runtime;
    this.#inspector = parts.inspector;
    this.#pid = parts.pid;
    this.#dataDir = parts.dataDir;
  }

  /** `straight`: what is asked at the URL goes to the object. Resolves once the object has its copy. */
  static async start(peers: readonly string[], straight: boolean): Promise<WatchedEdge> {
    process.env["WRANGLER_SEND_METRICS"] = "false";
    const dataDir = makeTempDir("watched");
    const [port = 0, inspectorPort = 0] = await freePorts(2);
    const { workerOptions, main = "" } = miniflareWorkerOptions(join(ROOT, "wrangler.toml"));
    const module = (contents: string) => [{ type: "ESModule" as const, path: "i.js", contents }];
    const bindings = {
      ...(workerOptions.bindings as Readonly<Record<string, string>>),
      QUORATE_PEERS: peers.join(","),
      QUORATE_REPLICAS: "*",
      QUORATE_REPLICA_WAIT_MS: "60000",
      QUORATE_TIMEOUT_MS: "60000",
    };
    const edge = { ...workerOptions, name: "edge", modules: module(await bundle(main)), bindings };
    const front = {
      name: "front",
      modules: module(FRONT),
      compatibilityDate: "2026-11-02",
      durableObjects: { REPLICA: { className: "Replica", scriptName: "edge", useSQLite: true } },
    };
    const before = new Set(workerdPids());
    const runtime = new Miniflare(
      convertV4MiniflareOptions({
        host: "127.0.0.1",
        port,
        inspectorPort,
        cf: false,
        log: new Log(LogLevel.ERROR),
        resourcePersistencePath: dataDir,
        workers: straight ? [front, edge] : [edge],
      }),
    );
    await runtime.ready;
    const pid = workerdPids().find((each) => !before.has(each));
    if (pid === undefined) throw new Error("workerd can't be found in /proc");
    const inspector = await Inspector.open(inspectorPort, "edge");
    const parts = { runtime, inspector, pid, dataDir };
    const started = new WatchedEdge(`http://127.0.0.1:${port}`, parts);
    await started.#untilCopied(straight);
    return started;
  }

  /** `collected`: behind a collection of garbage. */
  async memory(collected: boolean): Promise<Memory> {
    if (collected) await this.#inspector.ask("HeapProfiler.collectGarbage");
    const usage = await this.#inspector.ask("Runtime.getHeapUsage");
    const { usedSize = 0, embedderHeapUsedSize = 0, backingStorageSize = 0 } = usage;
    return {
      isolateBytes: usedSize + embedderHeapUsedSize + backingStorageSize,
      processBytes: usageOfAll([this.#pid]).anonymousBytes,
    };
  }

  async stop(): Promise<void> {
    this.#inspector.close();
    await this.#runtime.dispose();
    removeTempDir(this.#dataDir);
  }

  async #untilCopied(straight: boolean): Promise<void> {
    const until = performance.now() + REPLICA_MILLISECONDS_MAX;
    const path = straight ? "/" : "/kv?prefix=any";
    for (;;) {
      const response = await fetch(this.url + path, straight ? { method: "POST" } : {});
      await response.body?.cancel();
      const by = response.headers.get("x-quorate-served-by") ?? "";
      // The object alone refuses a POST without frames, once it could have answered one.
      if (straight ? response.status === 400 : by.startsWith("replica")) return;
      if (performance.now() > until) throw new Error(`no replica: ${response.status} ${by}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/** Processes below this one that are workerd. */
function workerdPids(): number[] {
  const parents = new Map<number, number>();
  const found: number[] = [];
  for (const name of readdirSync("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      parents.set(pid, Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
      if (readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "workerd") found.push(pid);
    } catch {
      // It has ended meanwhile.
    }
  }
  return found.filter((pid) => {
    let each: number | undefined = pid;
    while (each !== undefined && each !== process.pid) each = parents.get(each);
    return each === process.pid;
  });
}

/** V8's inspector of one isolate. */
class Inspector {
  readonly #socket: WebSocket;
  readonly #asked = new Map<number, (result: Readonly<Record<string, number>>) => void>();
  #next = 1;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on("message", (data: Buffer) => {
      const { id, result } = JSON.parse(data.toString("utf8")) as {
        id?: number;
        result?: Readonly<Record<string, number>>;
      };
      if (id !== undefined) this.#asked.get(id)?.(result ?? {});
    });
  }

  static async open(port: number, worker: string): Promise<Inspector> {
    const listed = await (await fetch(`http://127.0.0.1:${port}/json`)).json();
    const targets = listed as { id: string; webSocketDebuggerUrl: string }[];
    const target = targets.find(({ id }) => id.endsWith(worker));
    if (target === undefined) throw new Error(`no isolate of ${worker}: ${JSON.stringify(listed)}`);
    const socket = new WebSocket(target.webSocketDebuggerUrl);
    await new Promise((resolve, reject) => {
      socket.once("open", resolve);
      socket.once("error", reject);
    });
    return new Inspector(socket);
  }

  ask(method: string): Promise<Readonly<Record<string, number>>> {
    const id = this.#next++;
    return new Promise((resolve) => {
      this.#asked.set(id, resolve);
      this.#socket.send(JSON.stringify({ id, method }));
    });
  }

  close(): void {
    this.#socket.close();
  }
}
