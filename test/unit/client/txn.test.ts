/** client transactions and values: what is typed, and what schemas vouch for. */
import { afterEach, beforeEach, describe, expect, expectTypeOf, test } from "vitest";
import { cbor } from "../../../shared/client/cbor.ts";
import {
  ValueError,
  connect,
  get,
  json,
  key,
  nested,
  put,
  remove,
  schema,
} from "../../../shared/client/index.ts";
import type { Entry, StandardSchema, Store } from "../../../shared/client/index.ts";
import { Endpoint, memoryPlatform } from "../../support/memory-link.ts";
import { MemoryServices } from "../../support/memory-services.ts";

let store: Store<string>;

beforeEach(() => {
  const platform = memoryPlatform({ "http://a": new Endpoint(new MemoryServices()) });
  store = connect({ endpoints: ["http://a"], platform });
});
afterEach(() => store.close());

describe("transactions", () => {
  test("each operation's result has its type at its place", async () => {
    await store.put("a", "old");
    const outcome = await store
      .txn()
      .if(key("a").value.equals("old"), key("b").isMissing())
      .do(put("a", "new", { previous: true }), get("a"))
      .else(remove("a"))
      .commit();
    expect(outcome.succeeded).toBe(true);
    if (!outcome.succeeded) return;
    const [first, second] = outcome.results;
    expectTypeOf(first.previous).toEqualTypeOf<Entry<string> | undefined>();
    expect(first.previous?.value).toBe("old");
    expect(second.entry?.value).toBe("new");
    // @ts-expect-error the branch has two operations
    expect(outcome.results[2]).toBeUndefined();
  });

  test("the other branch, given as plain values, and a transaction in it", async () => {
    await store.put("a", "1");
    const outcome = await store.txn({
      if: [key("a").version.greaterThan(1)],
      else: [get({ prefix: "a" }), nested({ if: [key("a").exists()], do: [put("b", "2")] })],
    });
    if (outcome.succeeded) return expect.unreachable();
    expect(outcome.results[0].count).toBe(1);
    expect(outcome.results[1].succeeded).toBe(true);
    expect((await store.get("b"))?.modRevision).toBe(outcome.revision);
  });

  test.each([
    [key("k").version.equals(1), true],
    [key("k").version.notEquals(1), false],
    [key("k").createRevision.lessThan(3), true],
    [key("k").modRevision.greaterThan(2), false],
    [key("k").lease.equals(0n), true],
    [key("k").value.lessThan("w"), true],
    [key("missing").value.equals(""), false],
    [key("missing").exists(), false],
    [key("missing").version.equals(0), true],
  ])("condition %#", async (condition, holds) => {
    await store.put("k", "v");
    expect((await store.txn().if(condition).commit()).succeeded).toBe(holds);
  });
});

describe("values", () => {
  interface Config {
    readonly port: number;
  }
  /** A schema by hand, as the libraries make them. */
  const config: StandardSchema<Config> = {
    "~standard": {
      version: 1,
      vendor: "test",
      validate(value) {
        const { port } = value as { port?: unknown };
        return typeof port === "number"
          ? { value: { port } }
          : { issues: [{ message: "must be a number", path: ["port"] }] };
      },
    },
  };

  test("a schema checks what is written and what is read", async () => {
    const typed = store.as(schema(config));
    await typed.put("c", { port: 80 });
    expectTypeOf((await typed.get("c"))?.value).toEqualTypeOf<Config | undefined>();
    const wrong = { port: "80" } as unknown as Config;
    await expect(typed.put("c", wrong)).rejects.toThrow("port: must be a number");
    await store.put("c", '{"port":"x"}');
    const entry = await typed.get("c");
    expect(() => entry?.value).toThrow(ValueError);
    await store.put("c", "no json");
    expect((await typed.get("c"))?.bytes.length).toBe(7);
    const other = await typed.get("c");
    expect(() => other?.value).toThrow("no JSON");
  });

  test("CBOR keeps bytes, dates and bigints, alone and under a schema", async () => {
    const value = { at: new Date(1000), big: 2n ** 60n, raw: Uint8Array.of(0, 255), n: 1.5 };
    const typed = store.as(cbor<typeof value>());
    await typed.put("v", value);
    expect((await typed.get("v"))?.value).toEqual(value);
    const checked = store.as(schema(config, cbor()));
    await checked.put("c", { port: 1 });
    expect((await checked.get("c"))?.value).toEqual({ port: 1 });
  });

  test("JSON refuses what has no form in it", async () => {
    await expect(store.as(json<unknown>()).put("k", undefined)).rejects.toThrow("no JSON form");
  });
});
