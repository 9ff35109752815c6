/**
 * The ways into a cluster that are measured over a distance: etcd's protocol straight to the members,
 * the edge's HTTP, and a client's link through the edge. Each gives what it heard; `wan-calls.ts`
 * checks it.
 */
import {
  Compare_CompareResult,
  Compare_CompareTarget,
} from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { utf8 } from "../../shared/base/bytes.ts";
import { Endpoints } from "../../shared/client/endpoints.ts";
import { connect, key as keyOf, put as putOf } from "../../shared/client/index.ts";
import type { Store } from "../../shared/client/index.ts";
import { LinkCaller } from "../../shared/client/link-caller.ts";
import { defaultPlatform } from "../../shared/client/platform.ts";
import { WriteLanes } from "../../shared/client/write-lanes.ts";
import { EventSourceReader } from "../edge/event-source.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";

export const LEVELS = ["linearizable", "session", "bounded", "serializable"] as const;
export type Level = (typeof LEVELS)[number];

export interface Door {
  readonly name: string;
  readonly levels: readonly Level[];
  /** The key's value. Session reads go on from what this door has seen. */
  get(key: string, level: Level): Promise<string | undefined>;
  put(key: string, value: string): Promise<void>;
  /** Puts if the key's modRevision is this one; whether it was. */
  swap(key: string, revision: number, value: string): Promise<boolean>;
  /** The seconds that the lease is renewed for; 0: it is gone. */
  renew(lease: bigint): Promise<number>;
  /** Resolves once nothing is missed any more; gives the keys that are put, until the door closes. */
  watch(prefix: string): Promise<AsyncIterable<string>>;
  close(): void;
}

/** A bounded read may be so old. */
const MAX_AGE_MILLISECONDS = 1000;
const PATIENCE_MILLISECONDS = 30_000;
/** Timers take no more. */
const FOR_EVER_MILLISECONDS = 2 ** 31 - 1;

/** A plain client of etcd's, with one connection to each member, taken in turns. */
export class EtcdDoor implements Door {
  readonly name: string;
  readonly levels = ["linearizable", "serializable"] as const;
  readonly #clients: readonly EtcdClient[];
  #turn = 0;

  constructor(name: string, addresses: readonly string[]) {
    this.name = name;
    this.#clients = addresses.map((address) => new EtcdClient(new GrpcChannel(address)));
  }

  async get(key: string, level: Level): Promise<string | undefined> {
    const request = { key: utf8(key), serializable: level === "serializable" };
    const [kv] = (await this.#next().range(request)).kvs;
    return kv === undefined ? undefined : new TextDecoder().decode(kv.value);
  }

  async put(key: string, value: string): Promise<void> {
    await this.#next().put({ key: utf8(key), value: utf8(value) });
  }

  async swap(key: string, revision: number, value: string): Promise<boolean> {
    const request = { key: utf8(key), value: utf8(value) };
    const compare = {
      key: request.key,
      target: Compare_CompareTarget.MOD,
      result: Compare_CompareResult.EQUAL,
      targetUnion: { case: "modRevision" as const, value: BigInt(revision) },
    };
    const success = [{ request: { case: "requestPut" as const, value: request } }];
    return (await this.#next().txn({ compare: [compare], success })).succeeded;
  }

  async renew(lease: bigint): Promise<number> {
    const stream = this.#next().leaseKeepAlive();
    stream.send({ ID: lease });
    const { TTL } = await stream.next(PATIENCE_MILLISECONDS);
    stream.halfClose();
    return Number(TTL);
  }

  async watch(prefix: string): Promise<AsyncIterable<string>> {
    const watch = this.#next().watch();
    await watch.created({ key: utf8(prefix), rangeEnd: utf8(`${prefix}~`) });
    return (async function* () {
      for (;;) {
        const { events } = await watch.next(FOR_EVER_MILLISECONDS);
        for (const { kv } of events) yield new TextDecoder().decode(kv?.key);
      }
    })();
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }

  #next(): EtcdClient {
    this.#turn += 1;
    return this.#clients[this.#turn % this.#clients.length] as EtcdClient;
  }
}

/** The edge's HTTP: a request a call, and server-sent events. */
export class HttpDoor implements Door {
  readonly name: string;
  readonly levels = LEVELS;
  /** Reads by who answered: a peer, or a replica. */
  readonly served = { peer: 0, replica: 0 };
  readonly #url: string;
  readonly #over = new AbortController();
  #session = "";

  constructor(name: string, url: string) {
    this.name = name;
    this.#url = url;
  }

  async get(key: string, level: Level): Promise<string> {
    const maxAge = level === "bounded" ? `&maxAge=${MAX_AGE_MILLISECONDS}` : "";
    const inSession = level === "session" && this.#session !== "";
    const headers = inSession ? { "x-quorate-session": this.#session } : undefined;
    const path = `/kv/${key}?consistency=${level}${maxAge}`;
    const { response, body } = await this.#ask(path, "GET", { headers });
    this.#session = response.headers.get("x-quorate-session") ?? this.#session;
    const by = response.headers.get("x-quorate-served-by") ?? "";
    this.served[by.startsWith("replica ") ? "replica" : "peer"] += 1;
    return body;
  }

  async put(key: string, value: string): Promise<void> {
    await this.#ask(`/kv/${key}`, "PUT", { body: value });
  }

  async swap(key: string, revision: number, value: string): Promise<boolean> {
    const headers = { "if-match": `"${revision}"` };
    const { response } = await this.#ask(`/kv/${key}`, "PUT", { body: value, headers });
    return response.status === 200;
  }

  async renew(lease: bigint): Promise<number> {
    const { body } = await this.#ask(`/lease/${lease}/keepalive`, "POST");
    return (JSON.parse(body) as { ttl?: number }).ttl ?? 0;
  }

  async watch(prefix: string): Promise<AsyncIterable<string>> {
    const path = `/watch?prefix=${encodeURIComponent(prefix)}`;
    const response = await fetch(this.#url + path, { signal: this.#over.signal });
    const reader = new EventSourceReader(response);
    const ready = await reader.next();
    if (ready?.event !== "ready") throw new Error(`the watch began with ${ready?.event}`);
    return (async function* () {
      for (;;) {
        const event = await reader.next();
        if (event === undefined) return;
        yield String(event.data["key"]);
      }
    })();
  }

  close(): void {
    this.#over.abort();
  }

  async #ask(
    path: string,
    method: string,
    init: { body?: string | undefined; headers?: Record<string, string> | undefined } = {},
  ): Promise<{ response: Response; body: string }> {
    const signal = AbortSignal.timeout(PATIENCE_MILLISECONDS);
    const { body = null, headers = {} } = init;
    const response = await fetch(this.#url + path, { method, signal, body, headers });
    const text = await response.text();
    if (response.status !== 200) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return { response, body: text };
  }
}

/** The project's client on one link through the edge. */
export class LinkDoor implements Door {
  readonly name: string;
  readonly levels = LEVELS;
  readonly #store: Store<string>;
  /** For renewals at chosen moments: a store's leases renew themselves at their own. */
  readonly #caller: LinkCaller;

  constructor(name: string, url: string) {
    this.name = name;
    this.#store = connect({ edge: url });
    const platform = defaultPlatform();
    this.#caller = new LinkCaller({
      endpoints: new Endpoints([url]),
      platform,
      lanes: new WriteLanes((count) => platform.randomBytes(count)),
      role: "client",
      token: "",
      timeoutMilliseconds: PATIENCE_MILLISECONDS,
    });
  }

  async get(key: string, level: Level): Promise<string | undefined> {
    const bounded = { maxAgeMilliseconds: MAX_AGE_MILLISECONDS };
    const consistency = level === "bounded" ? bounded : level;
    return (await this.#store.get(key, { consistency }))?.value;
  }

  async put(key: string, value: string): Promise<void> {
    await this.#store.put(key, value);
  }

  async swap(key: string, revision: number, value: string): Promise<boolean> {
    const unchanged = keyOf(key).modRevision.equals(revision);
    return (await this.#store.txn().if(unchanged).do(putOf(key, value)).commit()).succeeded;
  }

  async renew(lease: bigint): Promise<number> {
    const { ttlSeconds } = await this.#caller.call({ method: "leaseKeepAlive", ids: [lease] });
    return ttlSeconds[0] ?? 0;
  }

  async watch(prefix: string): Promise<AsyncIterable<string>> {
    const watch = this.#store.watch({ prefix });
    await watch.ready;
    return (async function* () {
      for await (const { key } of watch) yield key;
    })();
  }

  close(): void {
    this.#store.close();
    this.#caller.close();
  }
}
