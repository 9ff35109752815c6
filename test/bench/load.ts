/**
 * The closed loop: N clients, each with one call under way, over C connections. Every reply is checked: the status of
 * its trailers, the revision of a put, the key and value of a range. A put run is whole only if the store's revision
 * grew by exactly the number of puts and no two puts got the same one.
 */
import { Prng } from "../../shared/base/prng.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import { GrpcConnection, type Call } from "./grpc-connection.ts";
import {
  isWholeRangeReply,
  KEY_OFFSET,
  putTemplate,
  rangeTemplate,
  revisionOfReply,
  VALUE_BYTES,
  writeKey,
} from "./messages.ts";

export const WORKLOADS = ["put", "range", "serializable"] as const;
export type Workload = (typeof WORKLOADS)[number];

/** Keys that are there before a range workload begins, unless told. */
const KEYS = 10_000;
const PRELOAD_CLIENTS = 100;
/** Beyond these the clock's cost would show; a sample array grows to what a run needs. */
const SAMPLES_FIRST = 1 << 16;

export interface LoadOptions {
  /** Where the connections go, in turns. */
  readonly addresses: readonly string[];
  readonly clients: number;
  readonly connections: number;
  readonly workload: Workload;
  readonly seed: number;
  /** How many keys range workloads read. */
  readonly keys?: number;
  readonly warmupMilliseconds: number;
  readonly measureMilliseconds: number;
  /** Called at the edges of the measured window, with the members that work. */
  onWindow(edge: "begin" | "end"): void;
}

export interface LoadResult {
  readonly calls: number;
  readonly errors: number;
  /** The first failure's text. */
  readonly firstError: string;
  readonly seconds: number;
  readonly callsPerSecond: number;
  readonly p50Milliseconds: number;
  readonly p99Milliseconds: number;
  /** CPU of the generator for each measured call. */
  readonly generatorMicroseconds: number;
}

/** Numbers shared by the clients of one run. */
class Run {
  readonly seed: number;
  readonly keys: number;
  readonly prng: Prng;
  measuring = false;
  stopping = false;
  nextKey = 0;
  samples = new Float64Array(SAMPLES_FIRST);
  sampleCount = 0;
  errors = 0;
  firstError = "";
  putsDone = 0;
  revisions: number[] = [];
  active = 0;
  finished: (() => void) | undefined;

  constructor(options: LoadOptions) {
    this.seed = options.seed;
    this.keys = options.keys ?? KEYS;
    this.prng = new Prng(options.seed);
  }

  addSample(milliseconds: number): void {
    if (this.sampleCount === this.samples.length) {
      const grown = new Float64Array(2 * this.samples.length);
      grown.set(this.samples);
      this.samples = grown;
    }
    this.samples[this.sampleCount] = milliseconds;
    this.sampleCount += 1;
  }

  fail(text: string): void {
    this.errors += 1;
    if (this.firstError === "") this.firstError = text;
  }
}

/** One client: its next call begins when its last has ended. */
class LoadClient implements Call {
  readonly path: string;
  readonly message: Buffer;
  readonly unary = true;
  readonly #run: Run;
  readonly #connection: GrpcConnection;
  readonly #workload: Workload;
  #startedAt = 0;
  #checked = false;

  constructor(run: Run, connection: GrpcConnection, workload: Workload, value: Uint8Array) {
    this.#run = run;
    this.#connection = connection;
    this.#workload = workload;
    this.path = workload === "put" ? "/etcdserverpb.KV/Put" : "/etcdserverpb.KV/Range";
    this.message = workload === "put" ? putTemplate(value) : rangeTemplate(workload !== "range");
  }

  begin(): void {
    const run = this.#run;
    let number = run.nextKey;
    if (this.#workload === "put") run.nextKey += 1;
    else number = run.prng.below(run.keys);
    writeKey(this.message, KEY_OFFSET, run.seed, number);
    this.#checked = false;
    this.#startedAt = performance.now();
    this.#connection.start(this);
  }

  onMessage(source: Buffer, start: number, end: number): void {
    if (this.#workload === "put") {
      const revision = revisionOfReply(source, start, end);
      this.#checked = revision > 0;
      this.#run.revisions.push(revision);
    } else {
      this.#checked = isWholeRangeReply(source, start, end, this.message);
    }
  }

  onEnd(status: number, text: string): void {
    const run = this.#run;
    if (status === 0 && this.#checked) {
      run.putsDone += 1;
      if (run.measuring) run.addSample(performance.now() - this.#startedAt);
    } else {
      run.fail(`status ${status}, ${this.#checked ? "a good reply" : "no good reply"}: ${text}`);
    }
    if (!run.stopping && status !== -1) {
      this.begin();
      return;
    }
    run.active -= 1;
    if (run.active === 0) run.finished?.();
  }
}

const sleep = (milliseconds: number) =>
  new Promise<void>((resolve) => {
    setTimeout(resolve, milliseconds);
  });

function randomValue(prng: Prng): Uint8Array {
  return Uint8Array.from({ length: VALUE_BYTES }, () => prng.below(256));
}

async function currentRevision(address: string): Promise<number> {
  const client = new EtcdClient(new GrpcChannel(address));
  const { header } = await client.range({ key: Uint8Array.of(0), countOnly: true });
  client.close();
  return Number(header?.revision ?? 0n);
}

/** Puts are whole when revisions are distinct and the store grew by exactly their number. */
function checkPuts(run: Run, before: number, after: number): void {
  const revisions = Float64Array.from(run.revisions).sort();
  let twice = 0;
  for (let at = 1; at < revisions.length; at += 1) {
    if (revisions[at] === revisions[at - 1]) twice += 1;
  }
  if (twice > 0) run.fail(`${twice} revisions were given to two puts`);
  const grown = after - before;
  // A failed put may have been applied, so failures leave room.
  if (grown < run.putsDone || grown > run.putsDone + run.errors) {
    run.fail(`${run.putsDone} puts, but the revision grew by ${grown}`);
  }
}

/** Runs the clients until `during` is over and every call has ended. */
async function drive(
  run: Run,
  options: Pick<LoadOptions, "addresses" | "clients" | "connections" | "workload">,
  during: () => Promise<void>,
): Promise<void> {
  const { addresses, clients, connections, workload } = options;
  const opened: GrpcConnection[] = [];
  for (let index = 0; index < connections; index += 1) {
    opened.push(await GrpcConnection.open(addresses[index % addresses.length] as string));
  }
  const value = randomValue(run.prng);
  const ended = new Promise<void>((resolve) => {
    run.finished = resolve;
  });
  run.active = clients;
  for (let index = 0; index < clients; index += 1) {
    const connection = opened[index % connections] as GrpcConnection;
    new LoadClient(run, connection, workload, value).begin();
  }
  for (const connection of opened) connection.flush();
  await during();
  run.stopping = true;
  await ended;
  for (const connection of opened) connection.close();
}

/** Writes the keys that range workloads read. */
async function preload(options: LoadOptions): Promise<void> {
  const run = new Run(options);
  const load = { ...options, clients: PRELOAD_CLIENTS, connections: 10, workload: "put" as const };
  await drive(run, load, async () => {
    while (run.nextKey < run.keys) await sleep(5);
  });
  if (run.errors > 0) throw new Error(`preload: ${run.firstError}`);
}

export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const first = options.addresses[0] as string;
  if (options.workload !== "put") await preload(options);
  const before = await currentRevision(first);
  const run = new Run(options);
  let [seconds, generatorMicroseconds] = [0, 0];
  await drive(run, options, async () => {
    await sleep(options.warmupMilliseconds);
    options.onWindow("begin");
    const [began, cpu] = [performance.now(), process.cpuUsage()];
    run.measuring = true;
    await sleep(options.measureMilliseconds);
    run.measuring = false;
    seconds = (performance.now() - began) / 1000;
    const spent = process.cpuUsage(cpu);
    options.onWindow("end");
    generatorMicroseconds = (spent.user + spent.system) / Math.max(1, run.sampleCount);
  });
  if (options.workload === "put") checkPuts(run, before, await currentRevision(first));
  const sorted = run.samples.subarray(0, run.sampleCount).sort();
  const at = (quantile: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(quantile * sorted.length))] ?? Number.NaN;
  return {
    calls: run.sampleCount,
    errors: run.errors,
    firstError: run.firstError,
    seconds,
    callsPerSecond: run.sampleCount / seconds,
    p50Milliseconds: at(0.5),
    p99Milliseconds: at(0.99),
    generatorMicroseconds,
  };
}
