/**
 * The closed loop: N clients, each with one call under way, over C connections. Every reply is checked: the status of
 * its trailers, the revision of a put, the key and value of a range, that a compare-and-set succeeded, that a renewed
 * lease lives. A run of writes is whole only if the store's revision grew by exactly their number and no two writes got
 * the same one.
 */
import type { Prng } from "../../shared/base/prng.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import { GrpcConnection, type Call } from "./grpc-connection.ts";
import { VALUE_BYTES } from "./messages.ts";
import { Run, sleep, type LoadResult, type Window } from "./run.ts";
import { UNARY_WORKLOADS, keepAliveScript, unaryScript, type Script } from "./scripts.ts";
import { runWatch } from "./watch-load.ts";

export const WORKLOADS = [...UNARY_WORKLOADS, "keepalive", "watch"] as const;
export type Workload = (typeof WORKLOADS)[number];

/** Keys that are there before a range workload begins, unless told. */
const KEYS = 10_000;
const PRELOAD_CLIENTS = 100;
const LEASE_TTL_SECONDS = 3600n;

export interface LoadOptions extends Window {
  /** Where the connections go, in turns. */
  readonly addresses: readonly string[];
  readonly clients: number;
  readonly connections: number;
  readonly workload: Workload;
  readonly seed: number;
  /** How many keys range workloads read. */
  readonly keys?: number;
}

/** One client: its next call begins when its last has ended. */
class LoadClient implements Call {
  readonly path: string;
  readonly message: Buffer;
  readonly unary: boolean;
  readonly #run: Run;
  readonly #connection: GrpcConnection;
  readonly #script: Script;
  #stream = 0;
  #startedAt = 0;
  #checked = false;

  constructor(run: Run, connection: GrpcConnection, script: Script) {
    this.path = script.path;
    this.message = script.message;
    this.unary = script.unary;
    this.#run = run;
    this.#connection = connection;
    this.#script = script;
  }

  begin(): void {
    this.#script.prepare();
    this.#checked = false;
    this.#startedAt = performance.now();
    if (this.#stream === 0 || this.unary) this.#stream = this.#connection.start(this);
    else this.#connection.send(this.#stream, this.message);
  }

  onMessage(source: Buffer, start: number, end: number): void {
    this.#checked = this.#script.check(source, start, end);
    if (!this.unary) this.#ended(0, "");
  }

  onEnd(status: number, text: string): void {
    // A stream ends when the connection is closed after the run.
    if (this.unary || !this.#run.stopping) this.#ended(status, text);
  }

  #ended(status: number, text: string): void {
    const run = this.#run;
    if (status === 0 && this.#checked) {
      run.writesDone += 1;
      run.done(this.#startedAt);
    } else {
      run.fail(`status ${status}, ${this.#checked ? "a good reply" : "no good reply"}: ${text}`);
    }
    if (!run.stopping && status !== -1) this.begin();
    else run.clientEnded();
  }
}

function randomValue(prng: Prng): Uint8Array {
  return Uint8Array.from({ length: VALUE_BYTES }, () => prng.below(256));
}

async function currentRevision(address: string): Promise<number> {
  const client = new EtcdClient(new GrpcChannel(address));
  const { header } = await client.range({ key: Uint8Array.of(0), countOnly: true });
  client.close();
  return Number(header?.revision ?? 0n);
}

async function grantLeases(address: string, count: number): Promise<bigint[]> {
  const client = new EtcdClient(new GrpcChannel(address));
  const grants = Array.from({ length: count }, () => client.leaseGrant({ TTL: LEASE_TTL_SECONDS }));
  const leases = (await Promise.all(grants)).map((grant) => grant.ID);
  client.close();
  return leases;
}

/** Runs one client per script until `during` is over and every call has ended. */
async function drive(
  run: Run,
  options: Pick<LoadOptions, "addresses" | "connections">,
  scripts: readonly Script[],
  during: () => Promise<void>,
): Promise<void> {
  const opened: GrpcConnection[] = [];
  for (let index = 0; index < options.connections; index += 1) {
    const address = options.addresses[index % options.addresses.length] as string;
    opened.push(await GrpcConnection.open(address));
  }
  const ended = new Promise<void>((resolve) => {
    run.finished = resolve;
  });
  run.active = scripts.length;
  for (const [index, script] of scripts.entries()) {
    const connection = opened[index % opened.length] as GrpcConnection;
    new LoadClient(run, connection, script).begin();
  }
  for (const connection of opened) connection.flush();
  await during();
  run.stopping = true;
  await ended;
  for (const connection of opened) connection.close();
}

function unaryScripts(run: Run, workload: (typeof UNARY_WORKLOADS)[number], clients: number) {
  const value = randomValue(run.prng);
  return Array.from({ length: clients }, () => unaryScript(workload, run, value));
}

/** Writes the keys that range workloads read. */
async function preload(options: LoadOptions): Promise<void> {
  const run = new Run(options);
  const scripts = unaryScripts(run, "put", PRELOAD_CLIENTS);
  await drive(run, { ...options, connections: 10 }, scripts, async () => {
    while (run.nextKey < (options.keys ?? KEYS)) await sleep(5);
  });
  if (run.errors > 0) throw new Error(`preload: ${run.firstError}`);
}

export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const { workload, clients } = options;
  if (workload === "watch") return runWatch(options);
  const first = options.addresses[0] as string;
  const reads = workload === "range" || workload === "serializable";
  if (reads) await preload(options);
  const before = await currentRevision(first);
  const run = new Run({ seed: options.seed, keys: options.keys ?? KEYS });
  const scripts =
    workload === "keepalive"
      ? (await grantLeases(first, clients)).map((id) => keepAliveScript(id))
      : unaryScripts(run, workload, clients);
  await drive(run, options, scripts, () => run.measure(options));
  if (!reads && workload !== "keepalive") run.checkWrites(before, await currentRevision(first));
  return run.result();
}
