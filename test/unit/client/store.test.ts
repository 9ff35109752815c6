/** client: keys, values, transactions, failover and what is never repeated, over links in memory. */
import { afterEach, beforeEach, describe, expect, expectTypeOf, test } from "vitest";
import { rpcError } from "../../../shared/api/errors.ts";
import { EMPTY, hexOf } from "../../../shared/base/bytes.ts";
import {
  RpcError,
  bytes,
  compare,
  connect,
  get,
  json,
  put,
  remove,
} from "../../../shared/client/index.ts";
import type { ConnectOptions, Store } from "../../../shared/client/index.ts";
import { Endpoint, memoryPlatform } from "../../support/memory-link.ts";
import { MemoryServices } from "../../support/memory-services.ts";

let services: MemoryServices;
let a: Endpoint;
let b: Endpoint;
let opened: Store<string>[];

function open(options: Partial<ConnectOptions> = {}): Store<string> {
  const platform = memoryPlatform({ "http://a": a, "http://b": b });
  const store = connect({
    endpoints: ["http://a", "http://b"],
    platform,
    timeoutMilliseconds: 10_000,
    ...options,
  });
  opened.push(store);
  return store;
}

const failure = (promise: Promise<unknown>): Promise<RpcError> =>
  promise.then(
    () => expect.unreachable("it succeeded"),
    (error: unknown) => {
      expect(error).toBeInstanceOf(RpcError);
      return error as RpcError;
    },
  );

beforeEach(() => {
  services = new MemoryServices();
  a = new Endpoint(services);
  b = new Endpoint(services);
  opened = [];
});
afterEach(() => {
  for (const store of opened) store.close();
});

describe("keys and values", () => {
  test("put, get, delete", async () => {
    const store = open();
    expect(await store.get("k")).toBeUndefined();
    expect(await store.put("k", "one")).toEqual({ revision: 2, previous: undefined });
    const { previous } = await store.put("k", "two", { previous: true });
    expect(previous?.value).toBe("one");
    const entry = await store.get("k");
    expect(entry).toMatchObject({ key: "k", value: "two", version: 2, modRevision: 3, lease: 0n });
    expect(await store.delete("k", { previous: true })).toMatchObject({ deleted: 1, revision: 4 });
    expect((await store.get("k", { revision: 2 }))?.value).toBe("one");
  });

  test("calls of one turn travel in one message", async () => {
    const store = open();
    await store.put("warm", "up");
    const before = a.batches;
    await Promise.all(Array.from({ length: 50 }, (_, n) => store.put(`k${n}`, "v")));
    expect(a.batches - before).toBe(1);
    expect(await store.count({ prefix: "k" })).toBe(50);
  });

  test("lists page at one revision, and ranges are half-open", async () => {
    const store = open();
    const names = Array.from({ length: 2100 }, (_, n) => `p/${String(n).padStart(4, "0")}`);
    await Promise.all(names.map((name) => store.put(name, "v")));
    const listing = await store.list({ prefix: "p/" });
    expect(listing.entries.map((entry) => entry.key)).toEqual(names);
    expect(listing.count).toBe(2100);
    expect(services.calls.filter((call) => call === "range").length).toBe(3);
    const some = await store.list({ from: "p/0001", to: "p/0003" }, { limit: 5 });
    expect(some.entries.map((entry) => entry.key)).toEqual(["p/0001", "p/0002"]);
    const last = await store.list(
      { all: true },
      { sort: { by: "key", order: "descend" }, limit: 1 },
    );
    expect(last).toMatchObject({ more: true, count: 2100, entries: [{ key: "p/2099" }] });
  });

  test("a namespace adds its prefix and hides it, and holds everything inside", async () => {
    const store = open();
    const app = store.namespace("app/");
    await store.put("zzz", "outside");
    await app.put("k", "inside");
    expect((await store.get("app/k"))?.value).toBe("inside");
    expect((await app.list({ all: true })).entries.map((entry) => entry.key)).toEqual(["k"]);
    expect((await app.list({ from: "a" })).entries.map((entry) => entry.key)).toEqual(["k"]);
    expect(await app.delete({ all: true })).toMatchObject({ deleted: 1 });
    expect((await store.get("zzz"))?.value).toBe("outside");
  });

  test("codecs: JSON with its type, and bytes", async () => {
    const store = open();
    const typed = store.as(json<{ port: number }>());
    await typed.put("config", { port: 80 });
    const entry = await typed.get("config");
    expectTypeOf(entry?.value).toEqualTypeOf<{ port: number } | undefined>();
    expect(entry?.value.port).toBe(80);
    await store.as(bytes).put("raw", Uint8Array.of(0, 255));
    expect((await store.get("raw"))?.bytes).toEqual(Uint8Array.of(0, 255));
  });

  test("an empty key is refused here, before anything is sent", async () => {
    expect((await failure(open().put("", "v"))).status).toBe("invalidArgument");
    expect(services.calls).toEqual([]);
  });
});

describe("transactions", () => {
  test("plain and in steps do the same", async () => {
    const store = open();
    const create = { if: [compare("k", "version", "=", 0)], do: [put("k", "1")], else: [get("k")] };
    expect(await store.txn(create)).toMatchObject({ succeeded: true, revision: 2 });
    const again = await store
      .txn()
      .if(compare("k", "version", "=", 0))
      .do(put("k", "2"))
      .else(get("k"), remove("k", { previous: true }))
      .commit();
    expect(again.succeeded).toBe(false);
    const [found, removed] = again.results;
    expect(found?.kind === "get" && found.entries[0]?.value).toBe("1");
    expect(removed?.kind === "remove" && removed.removed).toBe(1);
  });

  test("a compare of a value takes text or bytes, the others numbers", async () => {
    const store = open();
    await store.put("k", "v");
    const holds = await store.txn({ if: [compare("k", "value", "=", "v")] });
    expect(holds.succeeded).toBe(true);
    const error = await failure(store.txn({ if: [compare("k", "mod", "=", "v")] }));
    expect(error.message).toBe("a compare of mod takes a number");
  });
});

describe("failover", () => {
  test("goes to the next endpoint when one refuses", async () => {
    a.state = "down";
    expect((await open().put("k", "v")).revision).toBe(2);
  });

  test("says that no endpoint can be reached, and names them, within the deadline", async () => {
    a.state = "down";
    b.state = "down";
    const error = await failure(open().put("k", "v", { timeoutMilliseconds: 100 }));
    expect(error).toMatchObject({ status: "unavailable", outcome: "none", retryable: true });
    expect(error.message).toContain("http://a: refused; http://b: refused");
  });

  /** The next call has its effect, and its answer is lost with its link. */
  const loseNextAnswer = (endpoint: Endpoint): void => {
    services.fault = {
      after: () => {
        services.fault = {};
        endpoint.cutAll();
        return new Promise(() => undefined);
      },
    };
  };

  test("repeats a read when its link is cut, and a write, which applies once", async () => {
    const store = open();
    await store.put("k", "v");
    loseNextAnswer(a);
    expect((await store.get("k"))?.value).toBe("v");
    const before = services.revision;
    loseNextAnswer(b);
    expect(await store.put("k", "once")).toMatchObject({ revision: before + 1 });
    expect(services.calls).toEqual(["put", "range", "range", "put", "put"]);
    expect((await store.get("k"))?.version).toBe(2);
  });

  test("negative control: peers that ignore identities apply the repeated write twice", async () => {
    services.forgetful = true;
    const store = open();
    loseNextAnswer(a);
    await store.put("k", "twice");
    expect((await store.get("k"))?.version).toBe(2);
  });

  test("a lease whose grant was lost is granted once, under one id", async () => {
    const store = open();
    loseNextAnswer(a);
    const lease = await store.lease(30);
    expect(services.leaseIds).toEqual([lease.id]);
    await lease.revoke();
  });

  test("a refusal after a lost answer says nothing about it: unknown", async () => {
    const store = open();
    await store.put("k", "v");
    services.fault = {
      after: () => {
        services.fault = {
          before: () => {
            throw rpcError("noSpace");
          },
        };
        a.cutAll();
        return new Promise(() => undefined);
      },
    };
    const error = await failure(store.put("k", "w"));
    expect(error).toMatchObject({ code: "noSpace", outcome: "unknown", retryable: false });
  });

  test("a forgotten floor is renewed when nothing was sent before, else it is unknown", async () => {
    const store = open();
    await store.put("k", "v");
    let forgotten = 1;
    const floors: (number | undefined)[] = [];
    services.appliedIndex = 99;
    services.fault = {
      before: (method, call) => {
        if (method !== "put") return;
        floors.push(call.identity?.floor);
        if (forgotten-- > 0) throw rpcError("writeForgotten", { outcome: "unknown" });
      },
    };
    await store.put("k", "w");
    expect(floors).toEqual([10, 99]);
    expect(services.calls.filter((call) => call === "put")).toHaveLength(3);
    services.fault = {
      after: () => {
        services.fault = {
          before: () => {
            throw rpcError("writeForgotten", { outcome: "unknown" });
          },
        };
        a.cutAll();
        b.cutAll();
        return new Promise(() => undefined);
      },
    };
    const error = await failure(store.put("k", "x"));
    expect(error).toMatchObject({ code: "writeForgotten", outcome: "unknown" });
  });

  test("writes under way at once have clients of their own, which are used again", async () => {
    const store = open();
    const identities: string[] = [];
    services.fault = {
      before: (_method, { identity }) => {
        identities.push(`${hexOf(identity?.client ?? EMPTY)}:${identity?.sequence}`);
      },
    };
    for (let round = 0; round < 2; round += 1) {
      await Promise.all(["a", "b", "c"].map((key) => store.put(key, "v")));
    }
    expect(new Set(identities).size).toBe(6);
    expect(new Set(identities.map((each) => each.split(":")[0])).size).toBe(3);
  });

  test("repeats a write that was refused without effect, at the next endpoint", async () => {
    const store = open();
    let refusals = 2;
    services.fault = {
      before: () => {
        if (refusals-- > 0) throw rpcError("noLeader");
      },
    };
    expect((await store.put("k", "v")).revision).toBe(2);
    expect(services.calls).toEqual(["put", "put", "put"]);
  });

  test("does not repeat other refusals", async () => {
    const error = await failure(open().put("k", "v", { lease: 9n }));
    expect(error).toMatchObject({ code: "leaseNotFound", outcome: "none", retryable: false });
    expect(services.calls).toEqual(["put"]);
  });

  test("a deadline ends a call that gets no answer; a write's outcome is unknown", async () => {
    const store = open();
    await store.put("k", "v");
    a.state = "silent";
    b.state = "silent";
    const write = await failure(store.put("k", "w", { timeoutMilliseconds: 30 }));
    expect(write).toMatchObject({ status: "deadlineExceeded", outcome: "unknown" });
    const read = await failure(store.get("k", { timeoutMilliseconds: 30 }));
    expect(read).toMatchObject({ status: "deadlineExceeded", outcome: "none" });
  });

  test("an AbortSignal ends a call at once, and cancels it at the peer", async () => {
    const store = open();
    await store.put("k", "v");
    let cancelled = false;
    const reached = new Promise<void>((resolve) => {
      services.fault = {
        before: (_method, call) =>
          new Promise(() => {
            call.onCancel(() => {
              cancelled = true;
            });
            resolve();
          }),
      };
    });
    const aborter = new AbortController();
    const call = failure(store.put("k", "w", { signal: aborter.signal }));
    await reached;
    aborter.abort("no longer needed");
    expect(await call).toMatchObject({ status: "canceled", outcome: "unknown" });
    await expect.poll(() => cancelled).toBe(true);
    const early = await failure(store.get("k", { signal: aborter.signal }));
    expect(early).toMatchObject({ status: "canceled", outcome: "none" });
  });

  test("a wrong token is an answer, not a reason to go round the endpoints", async () => {
    const error = await failure(open({ token: "wrong" }).get("k"));
    expect(error).toMatchObject({ status: "unauthenticated", code: "invalidAuthToken" });
  });

  test("a closed client refuses calls", async () => {
    const store = open();
    await store.put("k", "v");
    store.close();
    expect(await failure(store.get("k"))).toMatchObject({ status: "canceled" });
  });
});

describe("over POST", () => {
  test("reads and writes go on at the next endpoint", async () => {
    const store = open({ transport: "post" });
    await store.put("k", "v");
    a.state = "down";
    expect((await store.get("k"))?.value).toBe("v");
    a.state = "up";
    b.state = "down";
    expect((await store.put("k", "w")).revision).toBe(3);
  });

  test("a write whose answer is lost applies once; a peer that ignores identities, twice", async () => {
    const real = memoryPlatform({ "http://a": a });
    for (const forgetful of [false, true]) {
      services.forgetful = forgetful;
      let lost = 0;
      const store = connect({
        endpoints: ["http://a"],
        transport: "post",
        platform: {
          ...real,
          fetch: async (url, init) => {
            const response = await real.fetch(url, init);
            // The first POST is the greeting.
            lost += 1;
            if (lost === 2) throw new TypeError("the answer was lost");
            return response;
          },
        },
      });
      await store.put(`forgetful-${forgetful}`, "v");
      const entry = await store.get(`forgetful-${forgetful}`);
      expect(entry?.version).toBe(forgetful ? 2 : 1);
    }
  });

  test("an endpoint that hangs leaves time for the others", async () => {
    const store = open({ transport: "post", timeoutMilliseconds: 400 });
    await store.put("k", "v");
    a.state = "silent";
    expect((await store.get("k"))?.value).toBe("v");
  });

  test("a write greets an endpoint first, and goes to another when that one refuses", async () => {
    a.state = "down";
    const store = open({ transport: "post" });
    expect((await store.put("k", "v")).revision).toBe(2);
    expect(services.calls).toEqual(["put"]);
  });

  test.each([
    [521, "none"],
    [522, "none"],
    [524, "unknown"],
    [500, "unknown"],
    [413, "none"],
  ])("a write that HTTP %d answers has the outcome %s", async (status, outcome) => {
    const real = memoryPlatform({ "http://a": a });
    let posts = 0;
    const store = connect({
      endpoints: ["http://a"],
      transport: "post",
      timeoutMilliseconds: 30,
      platform: {
        ...real,
        fetch: (url, init) => {
          posts += 1;
          const body = new ArrayBuffer(0);
          if (posts === 1) return real.fetch(url, init);
          return Promise.resolve({ status, arrayBuffer: () => Promise.resolve(body) });
        },
      },
    });
    expect((await failure(store.put("k", "v"))).outcome).toBe(outcome);
    expect(services.calls).toEqual([]);
  });

  test("a read waits out an outage of all endpoints, within its deadline", async () => {
    const store = open({ transport: "post" });
    await store.put("k", "v");
    a.state = "down";
    b.state = "down";
    const read = store.get("k");
    await failure(store.get("k", { timeoutMilliseconds: 60 }));
    b.state = "up";
    expect((await read)?.value).toBe("v");
  });

  test("a watch has a link of its own, which ends with it or with its store", async () => {
    const store = open({ transport: "post" });
    const first = store.watch("k");
    const second = store.watch("k");
    await Promise.all([first.ready, second.ready]);
    expect(a.sockets.size).toBe(2);
    first.close();
    expect(a.sockets.size).toBe(1);
    await store.put("k", "v");
    for await (const event of second) {
      expect(event.entry.value).toBe("v");
      break;
    }
    expect(a.sockets.size).toBe(0);
    await store.watch("k").ready;
    store.close();
    expect(a.sockets.size).toBe(0);
  });
});

test.each([
  [{}, "one of endpoints, edge and fetcher"],
  [{ endpoints: [] }, "one endpoint at least"],
  [{ endpoints: ["127.0.0.1:2379"] }, "no URL of the form http://host:port"],
])("connect refuses %j", (options, text) => {
  expect(() => connect(options)).toThrow(text);
});
