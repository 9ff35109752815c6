/**
 * Workload clients. Each asks one thing after the other of members that it picks by chance, over a
 * link that loses questions and answers when members crash or pause, and gives up after a time-out:
 * the outcome is unknown then.
 */
import { RpcError } from "../../shared/api/errors.ts";
import type { Prng } from "../../shared/base/prng.ts";
import type { KeySpan, Operation, Request, TxnRequest, TxnStep } from "./history.ts";
import { perform } from "./perform.ts";
import type { WriteIdentity } from "../../shared/wire/command.ts";
import type { SimCluster, SimMember } from "./sim-cluster.ts";

const KEYS = ["a", "b", "c", "d", "e", "f"];
const ALL_KEYS: KeySpan = { key: "a", end: "z" };
/** Some shorter than the peer's own time-out, one longer, so that both kinds of unknown outcome occur. */
const TIMEOUTS_MILLISECONDS = [300, 1500, 1500, 9000] as const;
const REST_MILLISECONDS = 10;
const THINK_MILLISECONDS_MAX = 60;
const LARGE = 0.03;
const LARGE_BYTES = 50_000;
/** How often a client turns to another member although this one answers. */
const WANDER = 0.1;
/** How many clients send a write again, under its identity, until they know what became of it. */
const RETRYING = 0.5;
const TRIES_MAX = 4;
const IDENTITY_BYTES = 8;

export interface AskOptions {
  /** Of a grant. */
  readonly ttlSeconds?: number;
  /** A write under this identity is sent again, to other members, while its outcome is unknown. */
  readonly identity?: WriteIdentity;
}

/** What a client that may send writes again counts. */
interface Lane {
  readonly client: Uint8Array;
  sequence: number;
  /** A log index that was applied before the next write is first sent; 0: none is known yet. */
  floor: number;
}

export class Clients {
  readonly operations: Operation[] = [];
  readonly #cluster: SimCluster;
  #running = true;
  #values = 0;
  /** The highest revision that any client was told. */
  #revision = 1;

  constructor(cluster: SimCluster) {
    this.#cluster = cluster;
  }

  stop(): void {
    this.#running = false;
  }

  /** Between two tries. */
  rest(): Promise<void> {
    return this.#cluster.world.sleep(REST_MILLISECONDS);
  }

  /** A client that goes on until `stop`. */
  async run(): Promise<void> {
    const { world } = this.#cluster;
    const prng = world.prng.fork();
    /** Revisions that this client has seen, so that its swaps sometimes match. */
    const known = new Map<string, number>();
    let member = prng.pick(this.#cluster.members);
    const client = Uint8Array.from({ length: IDENTITY_BYTES }, () => prng.below(256));
    const lane: Lane | undefined = prng.chance(RETRYING)
      ? { client, sequence: 0, floor: 0 }
      : undefined;
    while (this.#running) {
      await world.sleep(prng.between(1, THINK_MILLISECONDS_MAX));
      const request = this.#invent(prng, known);
      const identity =
        lane !== undefined && mayRepeat(request) ? nextWrite(lane, member) : undefined;
      const operation = await this.ask(member, request, identity && { identity });
      const content = typeof operation.outcome === "object";
      if (!content || prng.chance(WANDER)) member = prng.pick(this.#cluster.members);
      if (typeof operation.outcome !== "object") continue;
      for (const kv of operation.outcome.kvs ?? []) known.set(kv.key, kv.modRevision);
      if (request.kind === "put") known.set(request.key, operation.outcome.revision);
    }
  }

  /**
   * Asks a member, and returns when it has answered or the time is over; with an identity only when
   * that has happened several times.
   */
  async ask(
    member: SimMember,
    request: Request,
    { ttlSeconds = 0, identity }: AskOptions = {},
  ): Promise<Operation> {
    const { world, members } = this.#cluster;
    const operation: Operation = {
      id: this.operations.length,
      request,
      invoked: world.now,
      returned: undefined,
      outcome: "unknown",
    };
    this.operations.push(operation);
    let outcome: Operation["outcome"] = "unknown";
    let asked = member;
    for (let tries = identity === undefined ? 1 : TRIES_MAX; tries > 0; tries -= 1) {
      const answer = await this.#try(asked, operation, { ttlSeconds, identity });
      // Once it is unknown it stays so: a later refusal says nothing about the earlier try.
      if (answer !== "refused" || tries === TRIES_MAX || identity === undefined) outcome = answer;
      if (typeof answer === "object" || outcome === "refused") break;
      asked = world.prng.pick(members);
    }
    operation.returned = world.now;
    operation.outcome = outcome;
    if (typeof outcome === "object") this.#revision = Math.max(this.#revision, outcome.revision);
    world.note(`client ${request.kind} ${outcomeText(operation)}`);
    return operation;
  }

  #try(
    member: SimMember,
    operation: Operation,
    options: { ttlSeconds: number; identity: WriteIdentity | undefined },
  ): Promise<Operation["outcome"]> {
    const { world } = this.#cluster;
    return new Promise((resolve) => {
      world.schedule(world.prng.pick(TIMEOUTS_MILLISECONDS), () => resolve("unknown"));
      world.schedule(linkDelay(world.prng), () => {
        const { process } = member;
        // Nobody listens: the client knows that it was not heard.
        if (process === undefined) return resolve("refused");
        process.enter(() => {
          const { peer } = member;
          if (peer === undefined || member.process !== process) return;
          const reply = (outcome: Operation["outcome"]): void => {
            // What a dead process says reaches nobody.
            if (member.process !== process) return;
            world.schedule(linkDelay(world.prng), () => resolve(outcome));
          };
          perform(peer.services, operation.request, options).then(reply, (error: unknown) =>
            reply(this.#failed(operation, error)),
          );
        });
      });
    });
  }

  #failed(operation: Operation, error: unknown): Operation["outcome"] {
    if (!(error instanceof RpcError)) {
      const text = error instanceof Error ? error.stack : String(error);
      this.#cluster.world.fail(`a service threw ${text}`);
      return "unknown";
    }
    operation.code = error.code;
    return error.outcome === "none" ? "refused" : "unknown";
  }

  #invent(prng: Prng, known: ReadonlyMap<string, number>): Request {
    const key = prng.pick(KEYS);
    this.#values += 1;
    // Large values make snapshots of several chunks.
    const value = `v${this.#values}`.padEnd(prng.chance(LARGE) ? LARGE_BYTES : 0, ".");
    const dice = prng.below(100);
    if (dice < 27) return { kind: "put", key, value, lease: 0n };
    if (dice < 35) return inventTxn(prng, value, 1);
    if (dice < 48) return { kind: "swap", key, expected: known.get(key) ?? 0, value };
    if (dice < 55) return { kind: "delete", key, end: undefined };
    if (dice < 57) return { kind: "delete", key, end: "g" };
    if (dice < 62) {
      const keys = KEYS.filter(() => prng.chance(0.5));
      return { kind: "putAll", keys: keys.length === 0 ? [key] : keys, value };
    }
    if (dice < 63) return { kind: "compact", upTo: this.#earlier(prng) };
    const serializable = prng.chance(0.2);
    const atRevision = prng.chance(0.2) ? this.#earlier(prng) : 0;
    if (dice < 82) return { kind: "range", key, end: undefined, serializable, atRevision };
    const limit = prng.pick([0, 0, 2, 4]);
    const countOnly = prng.chance(0.1);
    return { kind: "range", ...ALL_KEYS, serializable, atRevision, limit, countOnly };
  }

  #earlier(prng: Prng): number {
    return Math.max(1, this.#revision - prng.below(60));
  }
}

/** The door takes an identity with these. */
function mayRepeat({ kind }: Request): boolean {
  return kind === "put" || kind === "delete" || kind === "txn" || kind === "swap";
}

/** Undefined while no member has told how far it is. */
function nextWrite(lane: Lane, { peer }: SimMember): WriteIdentity | undefined {
  lane.floor = Math.max(lane.floor, peer?.raftStatus().applied ?? 0);
  if (lane.floor === 0) return undefined;
  lane.sequence += 1;
  return { client: lane.client, sequence: lane.sequence, floor: lane.floor };
}

/** Each key is written at most once in it, whatever branch is taken: the API refuses more. */
function inventTxn(prng: Prng, value: string, depth: number, keys = KEYS): TxnRequest {
  const steps = (own: readonly string[]): TxnStep[] => {
    const made = own.map((key): TxnStep => {
      const dice = prng.below(10);
      if (dice < 4) return { kind: "put", key, value, lease: 0n };
      if (dice < 6) return { kind: "delete", key, end: undefined };
      return { kind: "range", ...ALL_KEYS, limit: prng.pick([0, 1, 3]) };
    });
    return made.slice(0, 3);
  };
  const place = prng.below(keys.length);
  const own = keys.slice(0, place);
  const nested = keys.slice(place);
  const success = steps(own);
  // An empty transaction isn't linearizable, as etcd has it.
  if (own.length === 0) success.push({ kind: "range", ...ALL_KEYS, limit: 1 });
  if (depth > 0 && nested.length > 0 && prng.chance(0.5)) {
    success.push(inventTxn(prng, `${value}n`, depth - 1, nested));
  }
  const target = prng.pick(["version", "create", "mod", "value"] as const);
  const result = prng.pick(["equal", "greater", "less", "notEqual"] as const);
  const operand = target === "value" ? "v500" : prng.below(4);
  const span = prng.chance(0.3) ? ALL_KEYS : { key: prng.pick(KEYS), end: undefined };
  return {
    kind: "txn",
    compares: [{ ...span, target, result, operand }],
    success,
    failure: steps(own),
  };
}

function linkDelay(prng: Prng): number {
  return prng.between(50, 2000) / 1000;
}

function outcomeText({ outcome }: Operation): string {
  if (typeof outcome === "string") return outcome;
  return `@${outcome.revision} ${outcome.kvs?.map((kv) => kv.value.slice(0, 9)).join() ?? ""}`;
}
