/**
 * Who may do what through the edge, over every door, before peers that want the edge's secret: the
 * callers show tokens of their own, which never reach the peers.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LIMITS } from "../../shared/base/limits.ts";
import { connect } from "../../shared/client/index.ts";
import type { Store } from "../../shared/client/index.ts";
import { startQuorate } from "../support/cluster.ts";
import type { Cluster } from "../support/cluster.ts";
import { makeKey, secondsFromNow } from "../support/tokens.ts";
import type { TokenKey } from "../support/tokens.ts";
import { PATIENT, jsonOf, problemOf } from "./edge.ts";
import type { Edge, StartEdge } from "./edge.ts";
import { EventSourceReader } from "./event-source.ts";

const SECRET = "between edge and peers";
const ORIGIN = "https://app.example";

const b64 = (text: string): string => Buffer.from(text).toString("base64");

export function tokenSuite(start: StartEdge): void {
  let cluster: Cluster;
  let edge: Edge;
  let key: TokenKey;
  let mine: string;
  let theirs: string;
  beforeAll(async () => {
    cluster = await startQuorate({ members: 1, env: { QUORATE_SECRET: SECRET } });
    key = await makeKey("ES256", "k1");
    edge = await start(
      cluster.addresses.map((address) => `http://${address}`),
      {
        QUORATE_SECRET: SECRET,
        QUORATE_JWT_KEYS: JSON.stringify({ keys: [key.jwk] }),
        QUORATE_JWT_AUDIENCE: "quorate",
        QUORATE_ORIGINS: ORIGIN,
        ...PATIENT,
      },
    );
    mine = await token("mine", { read: ["mine/", "public/"], write: ["mine/"] });
    theirs = await token("theirs", { read: ["theirs/"], write: ["theirs/"] });
  });
  afterAll(async () => {
    await edge?.stop();
    await cluster?.stop();
  });

  const token = (sub: string, quorate: object, more: object = {}): Promise<string> =>
    key.sign({ sub, aud: "quorate", exp: secondsFromNow(600), quorate, ...more });
  const ask = (shown: string, path: string, init: RequestInit = {}): Promise<Response> =>
    edge.fetch(path, {
      ...init,
      headers: { ...(init.headers as Record<string, string>), authorization: `Bearer ${shown}` },
    });
  const post = (shown: string, path: string, body: object): Promise<Response> =>
    ask(shown, path, { method: "POST", body: JSON.stringify(body) });
  const grant = async (shown: string): Promise<string> => {
    const answer = await post(shown, "/lease", { ttl: 60 });
    return (await jsonOf<{ id: string }>(answer, 201)).id;
  };

  /** The client over the edge's link: by sockets where it serves some, else by POST. */
  async function withClient(shown: string, use: (store: Store<string>) => Promise<void>) {
    const store =
      edge.url === undefined
        ? connect({
            edge: "http://edge.invalid",
            token: shown,
            transport: "post",
            platform: { fetch: (url, init) => edge.fetch(new URL(url).pathname, init) },
          })
        : connect({ edge: edge.url, token: shown });
    try {
      await use(store);
    } finally {
      store.close();
    }
  }

  describe("tokens that are refused, on every door", () => {
    const doors: [string, RequestInit][] = [
      ["/kv/mine/a", {}],
      ["/kv/mine/a", { method: "PUT", body: "x" }],
      ["/txn", { method: "POST", body: "{}" }],
      ["/lease", { method: "POST", body: '{"ttl":5}' }],
      ["/watch?prefix=mine/", {}],
      ["/v3/kv/range", { method: "POST", body: "{}" }],
      ["/healthz", {}],
    ];
    const cases: [string, () => Promise<string> | string][] = [
      ["nothing", () => ""],
      ["no token at all", () => "not-a-token"],
      ["a wrong secret", () => `${SECRET}x`],
      ["an expired one", () => token("mine", {}, { exp: secondsFromNow(-60) })],
      ["one that isn't valid yet", () => token("mine", {}, { nbf: secondsFromNow(60) })],
      ["one for another audience", () => token("mine", {}, { aud: "other" })],
      ["one of another key", async () => (await makeKey("ES256", "k1")).sign({ sub: "mine" })],
      ["one that was changed", async () => `${mine.slice(0, 20)}x${mine.slice(21)}`],
    ];
    test.each(cases)("%s", async (_, make) => {
      const shown = await make();
      for (const [path, init] of doors) {
        const answer = await ask(shown, path, init);
        expect(answer.headers.get("www-authenticate")).toContain("Bearer");
        expect(await problemOf(answer, 401)).toMatchObject({ retryable: false, outcome: "none" });
      }
      await withClient(shown, async (store) => {
        // The client tries for as long as it may; on a slow machine it hears the reason later.
        let timeoutMilliseconds = 1000;
        const refusal = async (): Promise<string> => {
          timeoutMilliseconds *= 2;
          return store.get("mine/a", { timeoutMilliseconds }).then(() => "served", String);
        };
        const reason = edge.url === undefined ? /401/ : /Bearer|token/;
        await expect.poll(refusal, { timeout: 60_000 }).toMatch(reason);
      });
    });
  });

  test("the secret itself still opens everything, and the peers want it too", async () => {
    await jsonOf(await ask(SECRET, "/kv/anything", { method: "PUT", body: "x" }));
    expect(await (await ask(SECRET, "/kv/anything")).text()).toBe("x");
    const direct = connect({ endpoints: cluster.addresses.map((each) => `http://${each}`) });
    await expect(direct.get("anything")).rejects.toThrow("invalid auth token");
    direct.close();
  });

  test("keys: inside a permission yes, outside 403", async () => {
    await jsonOf(await ask(mine, "/kv/mine/a", { method: "PUT", body: "x" }));
    expect(await (await ask(mine, "/kv/mine/a")).text()).toBe("x");
    await jsonOf(await ask(mine, "/kv?prefix=mine/"));
    await jsonOf(await ask(mine, "/kv/mine/a", { method: "DELETE" }));
    await problemOf(await ask(mine, "/kv/public/a"), 404);
    const refused: [string, RequestInit][] = [
      ["/kv/theirs/a", {}],
      ["/kv/public/a", { method: "PUT", body: "x" }],
      ["/kv/public/a", { method: "PUT", body: "x", headers: { "if-none-match": "*" } }],
      ["/kv/theirs/a", { method: "DELETE" }],
      ["/kv?prefix=m", {}],
      ["/kv?prefix=mine/&format=ndjson", {}],
      ["/kv?from=mine/", {}],
      ["/kv?all", {}],
      ["/kv?prefix=theirs/", { method: "DELETE" }],
      ["/watch?prefix=theirs/", {}],
      ["/watch?all", {}],
    ];
    for (const [path, init] of refused) {
      if (path.includes("ndjson")) {
        // The prefix is its own: the lines come.
        await (await ask(mine, path, init)).text();
        continue;
      }
      const problem = await problemOf(await ask(mine, path, init), 403);
      expect(problem).toMatchObject({ outcome: "none", retryable: false });
    }
  });

  test("transactions: compares, nested ones and both branches count", async () => {
    const put = (name: string): object => ({ put: { key: name, value: "v" } });
    await jsonOf(await post(mine, "/txn", { do: [put("mine/t")] }));
    const refused = [
      { do: [put("theirs/t")] },
      { else: [put("theirs/t")] },
      { do: [{ get: { prefix: "theirs/" } }] },
      { do: [{ txn: { else: [put("theirs/t")] } }] },
      { if: [{ key: "theirs/t", target: "version", value: 1 }], do: [put("mine/t")] },
    ];
    for (const txn of refused) await problemOf(await post(mine, "/txn", txn), 403);
  });

  test("leases belong to their tenant, whichever door asks", async () => {
    const id = await grant(mine);
    await jsonOf(await ask(mine, `/kv/mine/leased?lease=${id}`, { method: "PUT", body: "x" }));
    await jsonOf(await ask(mine, `/lease/${id}/keepalive`, { method: "POST" }));
    const asked: [string, RequestInit][] = [
      [`/lease/${id}`, {}],
      [`/lease/${id}/keepalive`, { method: "POST" }],
      [`/lease/${id}`, { method: "DELETE" }],
      [`/kv/theirs/a?lease=${id}`, { method: "PUT", body: "x" }],
      ["/v3/lease/revoke", { method: "POST", body: JSON.stringify({ ID: id }) }],
      ["/v3/lease/keepalive", { method: "POST", body: JSON.stringify({ ID: id }) }],
    ];
    for (const [path, init] of asked) await problemOf(await ask(theirs, path, init), 404);
    await withClient(theirs, async (store) => {
      await expect(store.put("theirs/a", "x", { lease: BigInt(id) })).rejects.toThrow("not found");
    });
    await problemOf(await post(theirs, "/lease", { ttl: 60, id: `${BigInt(id) + 1n}` }), 403);
    expect(await jsonOf(await ask(mine, `/lease/${id}`))).toMatchObject({ id });
    await jsonOf(await ask(mine, `/lease/${id}`, { method: "DELETE" }));
    await problemOf(await ask(mine, "/kv/mine/leased"), 404);
  });

  test("etcd's JSON gateway is held to the same", async () => {
    const put = { key: b64("mine/g"), value: b64("v") };
    await jsonOf(await post(mine, "/v3/kv/put", put));
    const got = await jsonOf<{ kvs: object[] }>(
      await post(mine, "/v3/kv/range", { key: b64("mine/"), range_end: b64("mine0") }),
    );
    expect(got.kvs.length).toBeGreaterThan(0);
    const refused: [string, object][] = [
      ["kv/range", { key: b64("theirs/") }],
      ["kv/range", { key: b64("\0"), range_end: b64("\0") }],
      ["kv/put", { key: b64("theirs/g") }],
      ["kv/deleterange", { key: b64("\0"), rangeEnd: b64("\0") }],
      ["kv/txn", { success: [{ requestPut: { key: b64("theirs/g") } }] }],
      ["watch", { create_request: { key: b64("theirs/") } }],
      ["kv/compaction", { revision: "1" }],
      ["cluster/member/list", {}],
      ["maintenance/alarm", {}],
    ];
    for (const [path, body] of refused) {
      await problemOf(await post(mine, `/v3/${path}`, body), 403);
    }
  });

  test("the link is held to the same, call by call", async () => {
    await withClient(mine, async (store) => {
      await store.put("mine/l", "v");
      expect((await store.get("mine/l"))?.value).toBe("v");
      await expect(store.get("theirs/l")).rejects.toThrow("permission denied");
      await expect(store.put("public/l", "v")).rejects.toThrow("permission denied");
      await expect(store.compact(1)).rejects.toThrow("permission denied");
      const lease = await store.lease(30);
      await store.put("mine/leased", "v", { lease });
      await lease.revoke();
      // One refusal doesn't touch what goes with it.
      const both = await Promise.allSettled([store.get("theirs/l"), store.get("mine/l")]);
      expect(both.map(({ status }) => status)).toEqual(["rejected", "fulfilled"]);
      if (edge.url === undefined) return;
      await expect(store.watch({ prefix: "theirs/" }).ready).rejects.toThrow("permission denied");
      await store.watch({ prefix: "mine/" }).ready;
    });
  });

  test("a watch ends when its reader's token expires", async () => {
    // The leeway for clocks counts here too: the token has two seconds left. On a machine that
    // takes longer to open a watch it is given more.
    const opened = async (seconds: number): Promise<Response> => {
      const exp = secondsFromNow(seconds - LIMITS.jwtLeewayMilliseconds / 1000);
      const shown = await token("mine", { read: ["mine/"] }, { exp });
      const answer = await ask(shown, "/watch?prefix=mine/");
      return answer.status === 401 && seconds < 30 ? opened(2 * seconds) : answer;
    };
    const answer = await opened(2);
    const events = new EventSourceReader(answer);
    expect(await events.take(1)).toMatchObject([{ event: "ready" }]);
    await expect
      .poll(
        async () => {
          await jsonOf(await ask(mine, "/kv/mine/tick", { method: "PUT", body: "x" }));
          const [event] = await events.take(1);
          return event?.event;
        },
        { timeout: 60_000 },
      )
      .toBe("error");
    await events.close();
  });

  test("pages of listed origins may ask with tokens; problem JSON tells them why not", async () => {
    const headers = { origin: ORIGIN };
    const answer = await ask(mine, "/kv/theirs/a", { headers });
    expect(answer.headers.get("access-control-allow-origin")).toBe(ORIGIN);
    expect(answer.headers.get("access-control-expose-headers")).toContain("x-quorate-session");
    await problemOf(answer, 403);
    await problemOf(await ask(mine, "/kv/mine/a", { headers: { origin: "https://evil" } }), 403);
  });
}

/** One caller that asks too often; peers aren't needed for that. */
export function rateSuite(start: StartEdge): void {
  test("who asks too often hears 429 and when to try again; others are served", async () => {
    const key = await makeKey("HS256", "k1");
    const edge = await start(["http://127.0.0.1:9"], {
      QUORATE_JWT_KEYS: JSON.stringify(key.jwk),
      QUORATE_RATE_PER_SECOND: "5",
      QUORATE_TIMEOUT_MS: "500",
    });
    try {
      const ask = async (sub: string): Promise<Response> => {
        const shown = await key.sign({ sub, exp: secondsFromNow(60) });
        return edge.fetch("/no-route", { headers: { authorization: `Bearer ${shown}` } });
      };
      const statuses: number[] = [];
      const asked = async (): Promise<void> => {
        const answer = await ask("eager");
        statuses.push(answer.status);
        if (answer.status === 429) {
          expect(answer.headers.get("retry-after")).toBe("1");
          expect(await problemOf(answer, 429)).toMatchObject({ retryable: true, outcome: "none" });
        } else {
          await problemOf(answer, 404);
        }
      };
      // All at once: a slow machine might ask no more often one by one than it may.
      await Promise.all(Array.from({ length: 100 }, asked));
      expect(statuses.filter((status) => status === 404).length).toBeGreaterThanOrEqual(10);
      expect(statuses).toContain(429);
      await problemOf(await ask("calm"), 404);
    } finally {
      await edge.stop();
    }
  });
}
