/**
 * What the edge promises its callers, as one suite over any runtime that can start one: beside a
 * real cluster, beside peers that fail in every way, and towards callers that have no business
 * there.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LIMITS } from "../../shared/base/limits.ts";
import { startQuorate } from "../support/cluster.ts";
import type { Cluster } from "../support/cluster.ts";
import { PATIENT, answered, jsonOf, problemOf } from "./edge.ts";
import type { Edge, StartEdge } from "./edge.ts";
import { consistencySuite } from "./consistency-suite.ts";
import { faultSuite } from "./fault-suite.ts";
import { kvSuite } from "./kv-suite.ts";
import { describeApi } from "./lease-suite.ts";
import { linkSuite } from "./link-suite.ts";
import { retrySuite } from "./retry-suite.ts";
import { rateSuite, tokenSuite } from "./token-suite.ts";

export function proxySuite(label: string, start: StartEdge): void {
  describe(`the edge ${label}`, () => {
    let cluster: Cluster;
    let edge: Edge;
    beforeAll(async () => {
      cluster = await startQuorate({ members: 3 });
      edge = await start(urlsOf(cluster), PATIENT);
    });
    afterAll(async () => {
      await edge?.stop();
      await cluster?.stop();
    });
    const edgeOf = (): Edge => edge;

    test("is healthy", async () => {
      const health = await jsonOf(await answered(() => edge.fetch("/healthz")));
      expect(health).toMatchObject({ healthy: true });
    });
    kvSuite(edgeOf);
    describeApi(edgeOf);
    describe("consistency", () => consistencySuite(edgeOf));
    describe("the link", () => linkSuite(edgeOf));
    describe("bad input", () => badInputSuite(edgeOf));
    describe("access without a secret", () => loopbackSuite(edgeOf));
    describe("access with a secret", () => secretSuite(start));
    describe("peers that fail", () => faultSuite(start, () => urlsOf(cluster)));
    describe("access with tokens", () => tokenSuite(start));
    describe("limits", () => rateSuite(start));
    describe("answers that are lost", () => retrySuite(start, () => urlsOf(cluster)));
    describe("a member stops", () => {
      test("reads and writes go on, whichever it is, and nothing acknowledged is lost", async () => {
        for (const [position, member] of cluster.members.entries()) {
          await member.stop();
          const init = { method: "PUT", body: `without ${member.name}` };
          try {
            await jsonOf(await answered(() => edge.fetch(`/kv/failover-${position}`, init)));
            for (let read = 0; read <= position; read += 1) {
              const got = await answered(() => edge.fetch(`/kv/failover-${read}`));
              expect([got.status, await got.text()]).toEqual([
                200,
                `without ${cluster.members[read]?.name}`,
              ]);
            }
          } catch (error) {
            const logs = cluster.members.map(({ name, child }) => `${name}:\n${child.log}`);
            throw new Error(logs.join("\n"), { cause: error });
          }
          await member.start();
        }
      });
    });
  });
}

export function urlsOf(cluster: Cluster): string[] {
  return cluster.addresses.map((address) => `http://${address}`);
}

export function badInputSuite(edgeOf: () => Edge): void {
  const LARGE = "x".repeat(LIMITS.requestBytesMax + 1);
  const json = (body: string): RequestInit => ({ method: "POST", body });
  const withId = (id: string): RequestInit => ({ headers: { "last-event-id": id } });
  const ifMatch = (match: string): RequestInit => ({
    method: "PUT",
    body: "x",
    headers: { "if-match": match },
  });
  const cases: [name: string, path: string, init: RequestInit, status: number][] = [
    ["an unknown route", "/nothing", {}, 404],
    ["a wrong method", "/kv?key=a", { method: "POST", body: "x" }, 405],
    ["a wrong method of a lease", "/lease/5", { method: "PUT", body: "x" }, 405],
    ["no key", "/kv", {}, 400],
    ["an empty key", "/kv?key=", {}, 400],
    ["a key in path and query", "/kv/a?key=b", {}, 400],
    ["a key and a range", "/kv?key=a&prefix=b", {}, 400],
    ["to without from", "/kv?to=b", {}, 400],
    ["an unknown parameter", "/kv?key=a&lmit=3", {}, 400],
    ["a parameter twice", "/kv?key=a&key=b", {}, 400],
    ["a broken percent-encoding", "/kv?key=%zz", {}, 400],
    ["half a percent-encoding in the path", "/kv/a%2", {}, 400],
    ["a limit that is no number", "/kv?prefix=a&limit=-1", {}, 400],
    ["a timeout of none", "/kv?key=a&timeout=0", {}, 400],
    ["a level that is none", "/kv?key=a&consistency=eventual", {}, 400],
    ["a bounded read without a bound", "/kv?key=a&consistency=bounded", {}, 400],
    ["a bound without its level", "/kv?key=a&maxAge=5", {}, 400],
    ["a token that is none", "/kv?key=a&consistency=session&session=x", {}, 400],
    ["two levels", "/kv?key=a&consistency=bounded&maxAge=1&serializable=true", {}, 400],
    ["a wrong cursor", "/kv?prefix=a&cursor=abc", {}, 400],
    ["wrong base64", "/kv?encoding=base64&key=a*b", {}, 400],
    ["wrong hex", "/kv?encoding=hex&key=abc", {}, 400],
    ["an unknown encoding", "/kv?encoding=rot13&key=a", {}, 400],
    ["a revision from the future", "/kv?key=a&revision=999999999", {}, 400],
    [
      "two conditions",
      "/kv/a",
      { ...ifMatch("1"), headers: { "if-match": "1", "if-none-match": "*" } },
      400,
    ],
    ["a wrong ETag", "/kv/a", ifMatch('"abc"'), 400],
    ["a wrong lease", "/kv/a?lease=x", { method: "PUT", body: "x" }, 400],
    ["an unknown lease", "/kv/a?lease=77", { method: "PUT", body: "x" }, 404],
    ["too large a value", "/kv/a", { method: "PUT", body: LARGE }, 413],
    ["malformed JSON", "/txn", json("{"), 400],
    ["JSON that is no object", "/txn", json("[]"), 400],
    ["bytes that are no UTF-8", "/txn", { method: "POST", body: new Uint8Array([255]) }, 400],
    ["wrong base64 in JSON", "/txn", json('{"do":[{"get":{"keyBase64":"*"}}]}'), 400],
    ["an unknown member", "/txn", json('{"do":[{"put":{"key":"a","vlue":"b"}}]}'), 400],
    ["two operations in one", "/txn", json('{"do":[{"put":{},"get":{}}]}'), 400],
    ["too much JSON", "/txn", json(" ".repeat(LIMITS.edgeJsonBytesMax + 1)), 413],
    ["a lease without ttl", "/lease", json("{}"), 400],
    ["a lease of a fraction", "/lease", json('{"ttl":0.5}'), 400],
    ["a lease id that is none", "/lease/abc", {}, 400],
    ["a lease id past 64 bits", "/lease/9999999999999999999/keepalive", { method: "POST" }, 400],
    ["a watch of nothing", "/watch", {}, 400],
    ["a wrong Last-Event-ID", "/watch?prefix=a", withId("abc"), 400],
    ["a Last-Event-ID of revision 0", "/watch?prefix=a", withId("0.0"), 400],
    ["a link by GET", "/link", {}, 426],
    ["a link batch of another type", "/link", json("{}"), 415],
  ];

  test.each(cases)(
    "%s is refused with a whole problem and no effect",
    async (_, path, init, status) => {
      const problem = await problemOf(await edgeOf().fetch(path, init), status);
      expect(problem).toMatchObject({ retryable: false, outcome: "none" });
    },
  );

  test("a HEAD of a key has its headers and no body", async () => {
    const edge = edgeOf();
    const put = await edge.fetch("/kv/head", { method: "PUT", body: "x" });
    const head = await edge.fetch("/kv/head", { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
    expect(head.headers.get("etag")).toBe(put.headers.get("etag"));
    await put.body?.cancel();
  });

  test("and the edge lives", async () => {
    const health = await answered(() => edgeOf().fetch("/healthz"));
    expect(await jsonOf(health)).toMatchObject({ healthy: true });
    await problemOf(await edgeOf().fetch("/kv/a"), 404);
  });
}

function loopbackSuite(edgeOf: () => Edge): void {
  test("another host than loopback is refused: a page may have rebound its name", async () => {
    expect(await edgeOf().statusAtHost("edge.example.com", "/kv?key=a")).toBe(403);
    expect(await edgeOf().statusAtHost("127.0.0.1.example.com", "/healthz")).toBe(403);
  });

  test("pages of other origins are refused, and get no CORS headers", async () => {
    const headers = { origin: "https://evil.example" };
    const response = await edgeOf().fetch("/kv/foreign", { method: "PUT", body: "x", headers });
    expect(response.headers.get("access-control-allow-origin")).toBeNull();
    expect((await problemOf(response, 403)).outcome).toBe("none");
    const asked = await edgeOf().fetch("/kv/foreign", { method: "OPTIONS", headers });
    await problemOf(asked, 403);
    await problemOf(await edgeOf().fetch("/kv/foreign"), 404);
  });
}

function secretSuite(start: StartEdge): void {
  let edge: Edge;
  const secret = "s3cret";
  const ORIGIN = "https://app.example";
  beforeAll(async () => {
    // No peer is needed: whoever gets past the door hears 503.
    edge = await start(["http://127.0.0.1:9"], {
      QUORATE_SECRET: secret,
      QUORATE_ORIGINS: ORIGIN,
      QUORATE_TIMEOUT_MS: "500",
    });
  });
  afterAll(() => edge?.stop());

  test.each([
    ["nothing", {}, 401],
    ["a wrong secret", { authorization: "Bearer s3cres" }, 401],
    ["a prefix of it", { authorization: "Bearer s3c" }, 401],
    ["it as a bearer token", { authorization: `Bearer ${secret}` }, 503],
    ["it in a header of its own", { "x-quorate-secret": secret }, 503],
    ["it from a foreign origin", { "x-quorate-secret": secret, origin: "https://evil" }, 403],
  ])("a caller that shows %s", async (_, headers, status) => {
    await problemOf(await edge.fetch("/kv?key=a", { headers }), status);
    await problemOf(await edge.fetch("/healthz", { headers }), status);
  });

  test("a host beyond loopback is served once it shows the secret", async () => {
    expect(await edge.statusAtHost("edge.example.com", "/kv?key=a")).toBe(401);
  });

  test("pages of a listed origin may ask, and read the answer", async () => {
    const asked = await edge.fetch("/kv?key=a", { method: "OPTIONS", headers: { origin: ORIGIN } });
    expect(asked.status).toBe(204);
    expect(asked.headers.get("access-control-allow-methods")).toContain("PUT");
    const headers = { origin: ORIGIN, "x-quorate-secret": secret };
    const answer = await edge.fetch("/kv?key=a", { headers });
    expect(answer.headers.get("access-control-allow-origin")).toBe(ORIGIN);
    await problemOf(answer, 503);
  });
}
