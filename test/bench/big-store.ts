/**
 * A large store on one member: keys of 32 bytes with values of 256 are put, then memory, the database's size, and how
 * long after kill -9 a fresh process answers its first linearizable read (counted from the start of the process).
 */
import type { Member } from "../support/cluster.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import { GrpcConnection, type Call } from "./grpc-connection.ts";
import {
  KEY_OFFSET,
  longKeyPutTemplate,
  longKeyRangeTemplate,
  revisionOfReply,
  VALUE_BYTES,
  writeKey,
} from "./messages.ts";
import { usageOfAll, type Usage } from "./process-usage.ts";
import { sleep } from "./run.ts";
import { startMembers, type Side } from "./sides.ts";

export interface BigStoreResult {
  readonly keys: number;
  readonly putsPerSecond: number;
  readonly databaseBytes: number;
  readonly loaded: Usage;
  readonly restarted: Usage;
  /** From the start of the process to the first answer. */
  readonly firstReadMilliseconds: number;
  /** CPU of the process until then. */
  readonly startCpuSeconds: number;
}

const CLIENTS = 200;
const CONNECTIONS = 20;
const SETTLE_MILLISECONDS = 3000;
const RETRY_MILLISECONDS = 5;
const FIRST_READ_MILLISECONDS_MAX = 60_000;

/** One of the clients that put all keys. */
class Putter implements Call {
  readonly path = "/etcdserverpb.KV/Put";
  readonly message: Buffer;
  readonly unary = true;
  readonly #load: Load;
  readonly #connection: GrpcConnection;

  constructor(load: Load, connection: GrpcConnection) {
    this.#load = load;
    this.#connection = connection;
    this.message = longKeyPutTemplate(new Uint8Array(VALUE_BYTES).fill(load.seed & 0xff));
  }

  begin(): void {
    const load = this.#load;
    if (load.next >= load.keys) return load.clientEnded();
    writeKey(this.message, KEY_OFFSET, load.seed, load.next);
    load.next += 1;
    this.#connection.start(this);
  }

  onMessage(source: Buffer, start: number, end: number): void {
    if (revisionOfReply(source, start, end) > 0) this.#load.done += 1;
  }

  onEnd(status: number, text: string): void {
    if (status === 0) return this.begin();
    this.#load.fail(new Error(`a put failed: status ${status} ${text}`));
  }
}

interface Load {
  readonly seed: number;
  readonly keys: number;
  next: number;
  done: number;
  clientEnded(): void;
  fail(error: Error): void;
}

/** Puts `keys` keys of 32 bytes with values of 256; their bytes follow from the seed. */
export async function putAll(address: string, keys: number, seed: number): Promise<void> {
  const connections: GrpcConnection[] = [];
  for (let index = 0; index < CONNECTIONS; index += 1) {
    connections.push(await GrpcConnection.open(address));
  }
  await new Promise<void>((resolve, reject) => {
    let active = CLIENTS;
    const clientEnded = () => {
      active -= 1;
      if (active === 0) resolve();
    };
    const load: Load = { seed, keys, next: 0, done: 0, clientEnded, fail: reject };
    const progress = setInterval(() => {
      if (load.done >= keys) return clearInterval(progress);
      console.log(`  ${load.done} of ${keys} keys`);
    }, 10_000);
    progress.unref();
    for (let index = 0; index < CLIENTS; index += 1) {
      new Putter(load, connections[index % CONNECTIONS] as GrpcConnection).begin();
    }
    for (const connection of connections) connection.flush();
  });
  for (const connection of connections) connection.close();
}

/** Resolves with true once the key is read with its whole value; false when the server isn't there yet. */
async function readOnce(address: string, message: Buffer): Promise<boolean> {
  try {
    const connection = await GrpcConnection.open(address);
    const read = await new Promise<boolean>((resolve) => {
      let whole = false;
      const call: Call = {
        path: "/etcdserverpb.KV/Range",
        message,
        unary: true,
        onMessage: (_source, start, end) => (whole = end - start > VALUE_BYTES),
        onEnd: (status) => resolve(status === 0 && whole),
      };
      connection.start(call);
      connection.flush();
    });
    connection.close();
    return read;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ECONNREFUSED") return false;
    throw error;
  }
}

async function restart(
  member: Member,
  seed: number,
): Promise<{ milliseconds: number; cpu: number }> {
  await member.kill();
  const message = longKeyRangeTemplate();
  writeKey(message, KEY_OFFSET, seed, 1);
  const began = performance.now();
  await member.launch();
  while (!(await readOnce(member.address, message))) {
    if (performance.now() - began > FIRST_READ_MILLISECONDS_MAX) {
      throw new Error("no read after a restart");
    }
    await sleep(RETRY_MILLISECONDS);
  }
  const milliseconds = performance.now() - began;
  return { milliseconds, cpu: usageOfAll([member.child.pid]).cpuSeconds };
}

export async function measureBigStore(
  side: Side,
  options: { readonly keys: number; readonly seed: number },
): Promise<BigStoreResult> {
  const { keys, seed } = options;
  const cluster = await startMembers(side, 1);
  try {
    const member = cluster.members[0] as Member;
    const began = performance.now();
    await putAll(member.address, keys, seed);
    const seconds = (performance.now() - began) / 1000;
    await sleep(SETTLE_MILLISECONDS);
    const loaded = usageOfAll([member.child.pid]);
    const { milliseconds, cpu } = await restart(member, seed);
    await sleep(SETTLE_MILLISECONDS);
    const client = new EtcdClient(new GrpcChannel(member.address));
    const { dbSize } = await client.status();
    const { count } = await client.range({
      key: Uint8Array.of(0),
      rangeEnd: Uint8Array.of(0),
      countOnly: true,
    });
    client.close();
    if (Number(count) !== keys) throw new Error(`${count} of ${keys} keys are there`);
    return {
      keys,
      putsPerSecond: keys / seconds,
      databaseBytes: Number(dbSize),
      loaded,
      restarted: usageOfAll([member.child.pid]),
      firstReadMilliseconds: milliseconds,
      startCpuSeconds: cpu,
    };
  } finally {
    await cluster.stop();
  }
}
