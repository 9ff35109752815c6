/**
 * Clients that write, read and compare-and-swap over gRPC, and keep the history of what they asked
 * and were told in the form that the simulator's checker of linearizability takes. Members may die
 * under them: a call that failed has an unknown outcome.
 */
import {
  Compare_CompareResult,
  Compare_CompareTarget,
} from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import type { ResponseHeader } from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { Event_EventType } from "../../shared/api/gen/mvccpb/kv_pb.js";
import type { KeyValue } from "../../shared/api/gen/mvccpb/kv_pb.js";
import { EMPTY, textOf, utf8 } from "../../shared/base/bytes.ts";
import type { Prng } from "../../shared/base/prng.ts";
import type { Answer, ObservedEvent, ObservedKv, Operation, Request } from "../sim/history.ts";
import type { EtcdClient } from "./etcd-client.ts";

const KEYS = ["a", "b", "c", "d", "e", "f"];
const CALL_MILLISECONDS = 2000;
const RETRY_MILLISECONDS = 15;
const VALUE_BYTES_MAX = 700;
const WATCH_MILLISECONDS = 60_000;

export class RecordedClients {
  readonly operations: Operation[] = [];
  /** Operations that were answered. */
  answered = 0;
  #values = 0;

  /**
   * Clients that go on until `signal` is aborted; `pick` says whom to ask next, `undefined` that
   * nobody is there now.
   */
  async run(options: {
    readonly count: number;
    readonly prng: Prng;
    readonly signal: AbortSignal;
    readonly pick: () => EtcdClient | undefined;
  }): Promise<void> {
    const clients = Array.from({ length: options.count }, () =>
      this.#client({ ...options, prng: options.prng.fork() }),
    );
    await Promise.all(clients);
  }

  async #client({
    prng,
    signal,
    pick,
  }: {
    prng: Prng;
    signal: AbortSignal;
    pick: () => EtcdClient | undefined;
  }): Promise<void> {
    const known = new Map<string, number>();
    while (!signal.aborted) {
      const client = pick();
      const request = this.#invent(prng, known);
      const answer = client === undefined ? undefined : await this.ask(client, request);
      if (answer === undefined) {
        await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
        continue;
      }
      for (const kv of answer.kvs ?? []) known.set(kv.key, kv.modRevision);
      if (request.kind === "put") known.set(request.key, answer.revision);
    }
  }

  /** Asks once; `undefined` when no answer came, whatever happened. */
  async ask(client: EtcdClient, request: Request): Promise<Answer | undefined> {
    const operation: Operation = {
      id: this.operations.length,
      request,
      invoked: performance.now(),
      returned: undefined,
      outcome: "unknown",
    };
    this.operations.push(operation);
    try {
      const answer = await perform(client, request);
      operation.returned = performance.now();
      operation.outcome = answer;
      this.answered += 1;
      return answer;
    } catch {
      return undefined;
    }
  }

  #invent(prng: Prng, known: ReadonlyMap<string, number>): Request {
    const key = prng.pick(KEYS);
    this.#values += 1;
    const value = `v${this.#values}.`.padEnd(prng.below(VALUE_BYTES_MAX), ".");
    const dice = prng.below(100);
    if (dice < 40) return { kind: "put", key, value, lease: 0n };
    if (dice < 55) return { kind: "swap", key, expected: known.get(key) ?? 0, value };
    if (dice < 62) return { kind: "delete", key, end: undefined };
    if (dice < 70) {
      const keys = KEYS.filter(() => prng.chance(0.5));
      return { kind: "putAll", keys: keys.length === 0 ? [key] : keys, value };
    }
    const span = dice < 85 ? { key, end: undefined } : { key: "a", end: "z" };
    return { kind: "range", ...span, serializable: false, atRevision: 0 };
  }
}

/** Everything that ever happened, by revision, as a watcher from the first revision on sees it. */
export async function watchedHistory(client: EtcdClient): Promise<Map<number, ObservedEvent[]>> {
  const { header } = await client.range({ key: utf8("a") });
  const last = Number(header?.revision);
  const history = new Map<number, ObservedEvent[]>();
  const watch = client.watch();
  try {
    await watch.created({ key: Uint8Array.of(0), rangeEnd: Uint8Array.of(0), startRevision: 2n });
    for (let seen = 1; seen < last;) {
      const { events } = await watch.next(WATCH_MILLISECONDS);
      for (const { type, kv } of events) {
        if (kv === undefined) throw new Error("an event without a key");
        const event: ObservedEvent = {
          type: type === Event_EventType.PUT ? "put" : "delete",
          kv: observed(kv),
        };
        seen = event.kv.modRevision;
        const list = history.get(seen);
        if (list === undefined) history.set(seen, [event]);
        else list.push(event);
      }
    }
  } finally {
    watch.cancel();
  }
  return history;
}

function observed(kv: KeyValue): ObservedKv {
  return {
    key: textOf(kv.key),
    value: textOf(kv.value),
    createRevision: Number(kv.createRevision),
    modRevision: Number(kv.modRevision),
    version: Number(kv.version),
    lease: kv.lease,
  };
}

function revisionOf(header: ResponseHeader | undefined): number {
  if (header === undefined) throw new Error("an answer without a header");
  return Number(header.revision);
}

async function perform(client: EtcdClient, request: Request): Promise<Answer> {
  const options = { timeoutMilliseconds: CALL_MILLISECONDS };
  switch (request.kind) {
    case "range": {
      const { key, end, serializable } = request;
      const rangeEnd = utf8(end ?? "");
      const answer = await client.range({ key: utf8(key), rangeEnd, serializable }, options);
      return { revision: revisionOf(answer.header), kvs: answer.kvs.map(observed) };
    }
    case "put": {
      const put = { key: utf8(request.key), value: utf8(request.value) };
      return { revision: revisionOf((await client.put(put, options)).header) };
    }
    case "delete": {
      const rangeEnd = utf8(request.end ?? "");
      const answer = await client.deleteRange({ key: utf8(request.key), rangeEnd }, options);
      return { revision: revisionOf(answer.header), deleted: Number(answer.deleted) };
    }
    case "putAll": {
      const success = request.keys.map((key) => putOf(key, request.value));
      return { revision: revisionOf((await client.txn({ success }, options)).header) };
    }
    case "swap":
      return swap(client, request, options);
    default:
      throw new Error(`these clients don't ask for ${request.kind}`);
  }
}

async function swap(
  client: EtcdClient,
  request: Request & { readonly kind: "swap" },
  options: { readonly timeoutMilliseconds: number },
): Promise<Answer> {
  const key = utf8(request.key);
  const modRevision = BigInt(request.expected);
  const { header, succeeded, responses } = await client.txn(
    {
      compare: [
        {
          result: Compare_CompareResult.EQUAL,
          target: Compare_CompareTarget.MOD,
          key,
          targetUnion: { case: "modRevision", value: modRevision },
        },
      ],
      success: [putOf(request.key, request.value)],
      failure: [{ request: { case: "requestRange", value: { key, rangeEnd: EMPTY } } }],
    },
    options,
  );
  const response = responses[0]?.response;
  const kvs = response?.case === "responseRange" ? response.value.kvs.map(observed) : [];
  return { revision: revisionOf(header), succeeded, kvs };
}

function putOf(key: string, value: string) {
  const put = { key: utf8(key), value: utf8(value) };
  return { request: { case: "requestPut" as const, value: put } };
}
