/**
 * Workload clients. Each asks one thing after the other of members that it picks by chance, over a link that loses
 * questions and answers when members crash or pause, and gives up after a time-out: the outcome is unknown then.
 */
import { EMPTY, utf8 } from "../../shared/base/bytes.ts";
import { RpcError } from "../../shared/api/errors.ts";
import type { Prng } from "../../shared/base/prng.ts";
import { wholeRange } from "../../shared/mvcc/types.ts";
import type { RangeQuery } from "../../shared/mvcc/types.ts";
import type { Services } from "../../shared/peer/services.ts";
import type { PutOp, TxnOp } from "../../shared/wire/command.ts";
import type { Answer, KeySpan, Operation, Request } from "./history.ts";
import { ANY_CALL, observedKv } from "./observers.ts";
import type { SimCluster, SimMember } from "./sim-cluster.ts";

const KEYS = ["a", "b", "c", "d", "e", "f"];
const ALL_KEYS: KeySpan = { key: "a", end: "z" };
/** Some shorter than the peer's own time-out, one longer, so that both kinds of unknown outcome occur. */
const TIMEOUTS_MILLISECONDS = [300, 1500, 1500, 9000] as const;
const THINK_MILLISECONDS_MAX = 60;
const LARGE = 0.03;
const LARGE_BYTES = 50_000;
/** How often a client turns to another member although this one answers. */
const WANDER = 0.1;

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

  /** A client that goes on until `stop`. */
  async run(): Promise<void> {
    const { world } = this.#cluster;
    const prng = world.prng.fork();
    /** Revisions that this client has seen, so that its swaps sometimes match. */
    const known = new Map<string, number>();
    let member = prng.pick(this.#cluster.members);
    while (this.#running) {
      await world.sleep(prng.between(1, THINK_MILLISECONDS_MAX));
      const request = this.#invent(prng, known);
      const operation = await this.ask(member, request);
      const content = typeof operation.outcome === "object";
      if (!content || prng.chance(WANDER)) member = prng.pick(this.#cluster.members);
      if (typeof operation.outcome !== "object") continue;
      for (const kv of operation.outcome.kvs ?? []) known.set(kv.key, kv.modRevision);
      if (request.kind === "put") known.set(request.key, operation.outcome.revision);
    }
  }

  /** Asks a member, and returns when it has answered or the time is over. */
  async ask(
    member: SimMember,
    request: Request,
    extra?: { ttlSeconds: number },
  ): Promise<Operation> {
    const { world } = this.#cluster;
    const operation: Operation = {
      id: this.operations.length,
      request,
      invoked: world.now,
      returned: undefined,
      outcome: "unknown",
    };
    this.operations.push(operation);
    const local = this.#cluster.mutant === "readWithoutQuorum";
    await new Promise<void>((resolve) => {
      const finish = (outcome: Operation["outcome"]): void => {
        if (operation.returned !== undefined) return;
        operation.returned = world.now;
        operation.outcome = outcome;
        if (typeof outcome === "object")
          this.#revision = Math.max(this.#revision, outcome.revision);
        resolve();
      };
      world.schedule(world.prng.pick(TIMEOUTS_MILLISECONDS), () => finish("unknown"));
      world.schedule(linkDelay(world.prng), () => {
        const { process } = member;
        // Nobody listens: the client knows that it was not heard.
        if (process === undefined) return finish("refused");
        process.enter(() => {
          const { peer } = member;
          if (peer === undefined || member.process !== process) return;
          const answering = perform(peer.services, request, {
            ttlSeconds: extra?.ttlSeconds ?? 0,
            local,
          });
          const reply = (outcome: Operation["outcome"]): void => {
            // What a dead process says reaches nobody.
            if (member.process !== process) return;
            world.schedule(linkDelay(world.prng), () => finish(outcome));
          };
          answering.then(reply, (error: unknown) => reply(this.#failed(error)));
        });
      });
    });
    world.note(`client ${request.kind} ${outcomeText(operation)}`);
    return operation;
  }

  #failed(error: unknown): Operation["outcome"] {
    if (!(error instanceof RpcError)) {
      const text = error instanceof Error ? error.stack : String(error);
      this.#cluster.world.fail(`a service threw ${text}`);
      return "unknown";
    }
    return error.outcome === "none" ? "refused" : "unknown";
  }

  #invent(prng: Prng, known: ReadonlyMap<string, number>): Request {
    const key = prng.pick(KEYS);
    this.#values += 1;
    // Large values make snapshots of several chunks.
    const value = `v${this.#values}`.padEnd(prng.chance(LARGE) ? LARGE_BYTES : 0, ".");
    const dice = prng.below(100);
    if (dice < 30) return { kind: "put", key, value, lease: 0n };
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
    if (dice < 85) return { kind: "range", key, end: undefined, serializable, atRevision };
    return { kind: "range", ...ALL_KEYS, serializable, atRevision };
  }

  #earlier(prng: Prng): number {
    return Math.max(1, this.#revision - prng.below(60));
  }
}

function linkDelay(prng: Prng): number {
  return prng.between(50, 2000) / 1000;
}

function outcomeText({ outcome }: Operation): string {
  if (typeof outcome === "string") return outcome;
  return `@${outcome.revision} ${outcome.kvs?.map((kv) => kv.value.slice(0, 9)).join() ?? ""}`;
}

/** Asks a peer's services, and brings the answer into the history's form. */
async function perform(
  { kv, lease }: Services,
  request: Request,
  { ttlSeconds, local }: { ttlSeconds: number; local: boolean },
): Promise<Answer> {
  switch (request.kind) {
    case "range": {
      const serializable = request.serializable || local;
      const answer = await kv.range(
        rangeQuery(request, request.atRevision),
        { serializable },
        ANY_CALL,
      );
      return { revision: answer.header.revision, kvs: answer.kvs.map(observedKv) };
    }
    case "put": {
      const { header } = await kv.put(putOp(request.key, request.value, request.lease), ANY_CALL);
      return { revision: header.revision };
    }
    case "delete": {
      const rangeEnd = utf8(request.end ?? "");
      const answer = await kv.deleteRange(
        { kind: "deleteRange", key: utf8(request.key), rangeEnd, previousKv: false },
        ANY_CALL,
      );
      return { revision: answer.header.revision, deleted: answer.deleted };
    }
    case "putAll": {
      const success = request.keys.map((key) => putOp(key, request.value, 0n));
      const txn: TxnOp = { kind: "txn", compares: [], success, failure: [] };
      const { header } = await kv.txn(txn, { serializable: false }, ANY_CALL);
      return { revision: header.revision };
    }
    case "swap":
      return performSwap(kv, request);
    case "grant": {
      const granted = await lease.grant(
        { id: request.lease, ttlSeconds: BigInt(ttlSeconds) },
        ANY_CALL,
      );
      return { revision: granted.header.revision };
    }
    case "compact": {
      const options = { revision: request.upTo, physical: false };
      return { revision: (await kv.compact(options, ANY_CALL)).header.revision };
    }
    case "revoke": {
      const { header } = await lease.revoke(request.lease, ANY_CALL);
      return { revision: header.revision };
    }
  }
}

async function performSwap(
  kv: Services["kv"],
  request: Request & { kind: "swap" },
): Promise<Answer> {
  const query = rangeQuery({ key: request.key, end: undefined }, 0);
  const txn: TxnOp = {
    kind: "txn",
    compares: [
      {
        target: "mod",
        result: "equal",
        key: utf8(request.key),
        rangeEnd: EMPTY,
        operand: BigInt(request.expected),
      },
    ],
    success: [putOp(request.key, request.value, 0n)],
    failure: [{ kind: "range", ...query }],
  };
  const { header, succeeded, results } = await kv.txn(txn, { serializable: false }, ANY_CALL);
  const [first] = results;
  const kvs = first?.kind === "range" ? first.result.kvs.map(observedKv) : [];
  return { revision: header.revision, succeeded, kvs };
}

function putOp(key: string, value: string, lease: bigint): PutOp {
  return {
    kind: "put",
    key: utf8(key),
    value: utf8(value),
    lease,
    previousKv: false,
    ignoreValue: false,
    ignoreLease: false,
  };
}

function rangeQuery({ key, end }: KeySpan, revision: number): RangeQuery {
  return { ...wholeRange(utf8(key), utf8(end ?? "")), revision };
}
