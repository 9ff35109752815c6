/**
 * Replicas in workerd, before real peers: the edge's suites with every key followed, hundreds of watchers from one
 * watch of the peers, storms of aborts and evictions, a compaction that a replica slept through, and permissions. The
 * controls read from a replica whose feed is late what a linearizable read must not say.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RpcError } from "../../shared/api/errors.ts";
import { Prng } from "../../shared/base/prng.ts";
import { connect } from "../../shared/client/index.ts";
import type { WatchResponse } from "../../shared/peer/services.ts";
import type { ObservedEvent, ObservedKv } from "../sim/history.ts";
import { checkLinearizable } from "../sim/linearizability.ts";
import { startQuorate } from "../support/cluster.ts";
import type { Cluster } from "../support/cluster.ts";
import { makeTempDir, removeTempDir } from "../support/temp-dir.ts";
import { makeKey, secondsFromNow } from "../support/tokens.ts";
import { consistencySuite } from "./consistency-suite.ts";
import { takeHistory } from "./edge-history.ts";
import { PATIENT, answered, jsonOf, problemOf, startEvictable, startWorkerd } from "./edge.ts";
import type { Edge, StruckEdge } from "./edge.ts";
import { EventSourceReader } from "./event-source.ts";
import type { SentEvent } from "./event-source.ts";
import { FakeCluster } from "./fake-cluster.ts";
import { kvSuite } from "./kv-suite.ts";
import { watchSuite } from "./lease-suite.ts";
import { urlsOf } from "./proxy-suite.ts";

const ANYBODY = /^(peer|replica) [0-9a-f]+$/;
const PATIENCE = { timeout: 60_000, interval: 100 };

const servedBy = (response: Response): string =>
  (response.headers.get("x-quorate-served-by") ?? "").split(" ")[0] ?? "";

/** Until the replica answers this read. */
async function untilNear(edge: Pick<Edge, "fetch">, path: string): Promise<void> {
  const until = Date.now() + PATIENCE.timeout;
  for (;;) {
    const response = await edge.fetch(path);
    await response.body?.cancel();
    if (servedBy(response) === "replica") return;
    if (Date.now() > until) throw new Error(`no replica answers ${path}`);
    await new Promise((resolve) => setTimeout(resolve, PATIENCE.interval));
  }
}

const put = async (edge: Pick<Edge, "fetch">, key: string, body: string): Promise<number> => {
  const answer = await answered(() => edge.fetch(`/kv/${key}`, { method: "PUT", body }));
  return (await jsonOf<{ revision: number }>(answer)).revision;
};

/** The peers' watchers, all together. */
async function watchersOf(cluster: Cluster): Promise<number> {
  let watchers = 0;
  for (const address of cluster.addresses) {
    const text = await (await fetch(`http://${address}/metrics`)).text();
    watchers += Number(/^etcd_debugging_mvcc_watcher_total (\d+)$/m.exec(text)?.[1]);
  }
  return watchers;
}

/**
 * Readers of one prefix, all from the replica: the peers have its one watcher. On a machine that is too slow for so
 * many at once some go to the peers; then all are opened anew.
 */
async function openFanOut(edge: Edge, cluster: Cluster): Promise<EventSourceReader[]> {
  const until = Date.now() + PATIENCE.timeout;
  for (;;) {
    const readers: EventSourceReader[] = [];
    for (let wave = 0; wave < 10; wave += 1) {
      const opened = Array.from({ length: 20 }, () =>
        edge.fetch("/watch?prefix=fan/", { signal: AbortSignal.timeout(220_000) }),
      );
      for (const each of await Promise.all(opened)) readers.push(new EventSourceReader(each));
    }
    for (const each of readers) expect(await each.take(1)).toMatchObject([{ event: "ready" }]);
    const watchers = await watchersOf(cluster);
    if (watchers === 1) return readers;
    if (Date.now() > until) throw new Error(`the peers have ${watchers} watchers`);
    await Promise.all(readers.map((each) => each.close()));
    await expect.poll(() => watchersOf(cluster), PATIENCE).toBe(1);
  }
}

describe("an edge with replicas of every key", () => {
  let cluster: Cluster;
  let edge: Edge;
  beforeAll(async () => {
    cluster = await startQuorate({ members: 1 });
    edge = await startWorkerd(urlsOf(cluster), {
      QUORATE_REPLICAS: "*",
      // Watches wait for the replica, however slow the machine is.
      QUORATE_REPLICA_WAIT_MS: "30000",
      ...PATIENT,
    });
    await untilNear(edge, "/kv?prefix=any");
  });
  afterAll(async () => {
    await edge?.stop();
    await cluster?.stop();
  });
  const edgeOf = (): Edge => edge;

  kvSuite(edgeOf);
  describe("consistency", () => consistencySuite(edgeOf, ANYBODY));
  describe("watches by server-sent events", () => watchSuite(edgeOf, { keepsHistory: true }));

  test("every level is served by the replica, once it has come so far", async () => {
    const revision = await put(edge, "near", "1");
    const levels = [
      "",
      "&consistency=serializable",
      "&consistency=bounded&maxAge=60000",
      "&consistency=session",
    ];
    for (const level of levels) await untilNear(edge, `/kv?key=near${level}`);
    const answer = await edge.fetch("/kv?key=near");
    expect(await answer.text()).toBe("1");
    expect(Number(answer.headers.get("x-quorate-revision"))).toBeGreaterThanOrEqual(revision);
  });

  test("a WebSocket is fed by it as well, and goes on where another one ended", async () => {
    const first = await put(edge, "ws/a", "1");
    const second = await put(edge, "ws/a", "2");
    const open = (query: string) => {
      const url = `${(edge.url ?? "").replace("http", "ws")}/watch?${query}`;
      const socket = new WebSocket(url);
      const messages: { event: string; id: string; data: { revision: number } }[] = [];
      socket.addEventListener("message", ({ data }) => messages.push(JSON.parse(String(data))));
      return { socket, messages };
    };
    const one = open(`prefix=ws/&revision=${first}`);
    await expect.poll(() => one.messages.length, PATIENCE).toBe(3);
    expect(one.messages.map(({ data }) => data.revision)).toEqual([first, first, second]);
    one.socket.close();
    const two = open(`prefix=ws/&lastEventId=${one.messages[1]?.id}`);
    await expect.poll(() => two.messages.length, PATIENCE).toBe(2);
    expect(two.messages.at(-1)).toMatchObject({ event: "put", data: { revision: second } });
    two.socket.close();
  });

  test("hundreds of watchers are fed from one watch of the peers, each event once and in order", async () => {
    const readers = await openFanOut(edge, cluster);
    const revisions: number[] = [];
    for (let turn = 0; turn < 5; turn += 1) revisions.push(await put(edge, "fan/a", `${turn}`));
    for (const each of readers) {
      const events = await each.take(revisions.length);
      expect(events.map(({ data }) => data["revision"])).toEqual(revisions);
    }
    await Promise.all(readers.map((each) => each.close()));
  });
});

const SECRET = "between edge and peers";

/** Local workerd gives requests a place in North America, and so a replica there. */
const replicaOf = (range: string): string => `replica:quorate:enam:${range}`;

describe("replicas that are aborted and evicted", () => {
  const dataDir = makeTempDir("struck");
  let cluster: Cluster;
  let running: StruckEdge | undefined;
  let edge: Pick<Edge, "fetch">;
  let tokenOf: (claims: object) => Promise<string>;
  beforeAll(async () => {
    cluster = await startQuorate({ members: 3, env: { QUORATE_SECRET: SECRET } });
    const key = await makeKey("ES256", "k1");
    tokenOf = (quorate) => key.sign({ sub: "caller", exp: secondsFromNow(600), quorate });
    const variables = {
      QUORATE_SECRET: SECRET,
      QUORATE_JWT_KEYS: JSON.stringify({ keys: [key.jwk] }),
      QUORATE_REPLICAS: "h/, c/ ,p%2F",
      QUORATE_TIMEOUT_MS: "8000",
    };
    const started = await startEvictable({ peers: urlsOf(cluster), dataDir, variables });
    running = started;
    edge = {
      fetch: (path, init = {}) => {
        const headers = new Headers(init.headers);
        if (!headers.has("authorization")) headers.set("authorization", `Bearer ${SECRET}`);
        return started.fetch(path, { ...init, headers });
      },
    };
  });
  afterAll(async () => {
    await running?.stop();
    removeTempDir(dataDir);
    await cluster?.stop();
  });

  const abort = async (range: string): Promise<void> => {
    await running?.abort("REPLICA", replicaOf(range));
  };

  test("over a storm of aborts, evictions and a killed member: a linearizable history, and no event lost", async () => {
    const seed = 20_261_121;
    const prng = new Prng(seed);
    await untilNear(edge, "/kv?prefix=h/");
    const by = { replica: 0, peer: 0 };
    const counting: Pick<Edge, "fetch"> = {
      fetch: async (path, init) => {
        const response = await edge.fetch(path, init);
        if (path.startsWith("/kv?prefix=h/")) by[servedBy(response) as keyof typeof by] += 1;
        return response;
      },
    };
    const watched = edge.fetch("/watch?prefix=h/", { signal: AbortSignal.timeout(220_000) });
    const reader = new EventSourceReader(await watched);
    expect(await reader.take(1)).toMatchObject([{ event: "ready" }]);
    let over = false;
    let evictions = 0;
    const storm = async (): Promise<void> => {
      const [member] = cluster.members;
      for (let strike = 0; strike < 10; strike += 1) {
        if (strike % 2 === 0) await abort("h/");
        else if (await running?.evict("REPLICA", replicaOf("h/"))) evictions += 1;
        if (strike === 5) await member?.kill();
        if (strike === 8) await member?.start();
        await new Promise((resolve) => setTimeout(resolve, 50 + prng.below(400)));
      }
      // However slow the machine is: the replica has its part in the history.
      const until = Date.now() + PATIENCE.timeout;
      while (by.replica < 5 && Date.now() < until) {
        await new Promise((resolve) => setTimeout(resolve, PATIENCE.interval));
      }
    };
    const storming = storm().finally(() => {
      over = true;
    });
    const how = { seed, until: () => over, operationsEach: 400 };
    const [history] = await Promise.all([takeHistory(counting, how), storming]);
    const answered = history.filter(({ outcome }) => typeof outcome === "object").length;
    console.log(`seed ${seed}: ${history.length} asked, ${answered} answered, reads by`, by);
    expect(evictions).toBeGreaterThan(1);
    expect(answered).toBeGreaterThan(20);
    expect(by.replica).toBeGreaterThan(0);
    const last = await put(edge, "h/last", "last");
    const events = new Map<number, ObservedEvent[]>();
    for (let revision = 0; revision < last;) {
      const [next] = await reader.take(1);
      const { event, data } = next as SentEvent;
      const {
        key = "",
        value = "",
        modRevision = 0,
        createRevision = 0,
        version = 0,
      } = data as Partial<ObservedKv>;
      expect(["put", "delete"]).toContain(event);
      // Each once, and in order.
      expect(modRevision).toBeGreaterThanOrEqual(revision);
      revision = modRevision;
      if (revision === last) continue;
      const kv = { key, value, modRevision, createRevision, version, lease: 0n };
      const type = event as ObservedEvent["type"];
      events.set(revision, [...(events.get(revision) ?? []), { type, kv }]);
    }
    await reader.close();
    expect(checkLinearizable(history, { events })).toMatchObject({ ok: true });
  });

  test("what isn't followed is the peers' to answer, and says so", async () => {
    await put(edge, "other/a", "1");
    const answer = await edge.fetch("/kv/other/a");
    expect([servedBy(answer), await answer.text()]).toEqual(["peer", "1"]);
    const wider = await edge.fetch("/kv?from=h&to=i");
    await wider.body?.cancel();
    expect(servedBy(wider)).toBe("peer");
  });

  test("permissions hold before the replica as before the peers", async () => {
    await put(edge, "p/a", "secret");
    await untilNear(edge, "/kv/p/a");
    const asking = async (claims: object): Promise<RequestInit> => ({
      headers: { authorization: `Bearer ${await tokenOf(claims)}` },
    });
    const allowed = await asking({ read: ["p/"], write: [] });
    const near = async (): Promise<string[]> => {
      const answer = await edge.fetch("/kv/p/a", allowed);
      return [servedBy(answer), await answer.text()];
    };
    // On a slow machine the peers may be asked first.
    await expect.poll(near, PATIENCE).toEqual(["replica", "secret"]);
    const foreign = await asking({ read: ["c/"], write: ["p/"] });
    for (const path of ["/kv/p/a", "/kv?prefix=p/", "/watch?prefix=p/"]) {
      expect(await problemOf(await edge.fetch(path, foreign), 403)).toMatchObject({
        outcome: "none",
      });
    }
    await problemOf(await edge.fetch("/kv/p/a", { headers: { authorization: "Bearer x" } }), 401);
  });

  test("a compaction that it slept through: it copies its range anew, and reads are right", async () => {
    await put(edge, "c/a", "0");
    await untilNear(edge, "/kv/c/a");
    const store = connect({
      endpoints: cluster.addresses.map((address) => `http://${address}`),
      token: SECRET,
    });
    let turn = 0;
    // Something may have woken it before the compaction: then it slept through none.
    const sleepThrough = async (): Promise<number | undefined> => {
      await abort("c/");
      turn += 1;
      await store.put("c/a", `${turn}`);
      const { revision } = await store.put("c/b", `${turn}`);
      await store.compact(revision);
      await untilNear(edge, "/kv/c/a");
      expect(await (await edge.fetch("/kv/c/a")).text()).toBe(`${turn}`);
      return (await running?.replica(replicaOf("c/")))?.copies;
    };
    try {
      await expect.poll(sleepThrough, PATIENCE).toBe(1);
    } finally {
      store.close();
    }
  });
});

test("evicted, a replica goes on from its storage; the control, which keeps nothing, copies anew", async () => {
  const cluster = new FakeCluster();
  const peer = await cluster.listen();
  const dataDir = makeTempDir("kept");
  const copiesAfter = async (control: Record<string, string>): Promise<number> => {
    const variables = { QUORATE_REPLICAS: "k/", ...PATIENT, ...control };
    const edge = await startEvictable({ peers: [peer], dataDir, variables });
    try {
      await untilNear(edge, "/kv?prefix=k/");
      await expect
        .poll(() => edge.evict("REPLICA", replicaOf("k/")), { timeout: 120_000 })
        .toBe(true);
      await untilNear(edge, "/kv?prefix=k/");
      return (await edge.replica(replicaOf("k/"))).copies;
    } finally {
      await edge.stop();
    }
  };
  try {
    expect(await copiesAfter({})).toBe(0);
    expect(await copiesAfter({ QUORATE_FORGETFUL: "1" })).toBe(1);
  } finally {
    cluster.stop();
    removeTempDir(dataDir);
  }
});

describe("a replica whose feed is late", () => {
  const cluster = new FakeCluster();
  let edge: Edge;
  let isHeld = false;
  beforeAll(async () => {
    const { watch } = cluster.services;
    const before = watch.open.bind(watch);
    // Nothing is pushed while the feed is held: neither events nor progress.
    watch.open = (sink, call) => {
      const held = {
        send: (response: WatchResponse) => isHeld || sink.send(response),
        end: (error: RpcError) => sink.end(error),
      };
      return before(held, call);
    };
    edge = await startWorkerd([await cluster.listen()], { QUORATE_REPLICAS: "late/" });
    await put(edge, "late/a", "old");
    await untilNear(edge, "/kv/late/a");
  });
  afterAll(async () => {
    await edge?.stop();
    cluster.stop();
  });

  test("a linearizable read waits, and then comes from the peers; the control shows what the replica has", async () => {
    isHeld = true;
    const revision = await put(edge, "late/a", "new");
    const answer = await edge.fetch("/kv/late/a");
    expect([await answer.text(), servedBy(answer)]).toEqual(["new", "peer"]);
    const session = answer.headers.get("x-quorate-session") ?? "";
    const own = await edge.fetch(`/kv/late/a?consistency=session&session=${session}`);
    expect(await own.text()).toBe("new");
    expect(Number(own.headers.get("x-quorate-revision"))).toBeGreaterThanOrEqual(revision);
    const asItIs = async (): Promise<string> => {
      const response = await edge.fetch("/kv/late/a?consistency=serializable");
      return `${await response.text()} by ${servedBy(response)}`;
    };
    await expect.poll(asItIs, PATIENCE).toBe("old by replica");
  });
});
