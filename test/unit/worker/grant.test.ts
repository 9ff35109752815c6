/** worker/auth/grant: what prefixes cover, and what each request needs. */
import { describe, expect, test } from "vitest";
import { EMPTY, utf8 } from "../../../shared/base/bytes.ts";
import { EVERYTHING, admit, admitWatch, covers } from "../../../worker/auth/grant.ts";
import type { Grant } from "../../../worker/auth/grant.ts";
import { admitGateway } from "../../../worker/auth/gateway-guard.ts";
import { isOwnLease, newLeaseId, tenantOf } from "../../../worker/auth/tenant.ts";
import type { LinkRequest } from "../../../shared/wire/link.ts";
import { compare, deleteOp, putOp, rangeOp, txnOp } from "../peer/driven-cluster.ts";

const tenant = await tenantOf("acme");
const foreign = newLeaseId(await tenantOf("other"));
const own = newLeaseId(tenant);

const GRANT: Grant = {
  caller: "app@acme",
  admin: false,
  read: [utf8("r/"), utf8("rw/")],
  write: [utf8("w/"), utf8("rw/")],
  tenant,
  expiresAt: Number.POSITIVE_INFINITY,
};

const outcome = (grant: Grant, request: LinkRequest): string => {
  try {
    admit(grant, request);
    return "ok";
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
};
const range = (key: string, end = ""): LinkRequest => ({
  method: "range",
  op: rangeOp(key, end),
  serializable: false,
});

test.each<[string, string, string, boolean]>([
  ["p/", "p/a", "", true],
  ["p/", "p/", "", true],
  ["p/", "p", "", false],
  ["p/", "q/a", "", false],
  ["p/", "p/", "p0", true],
  ["p/", "p/a", "p/b", true],
  ["p/", "p/", "p1", false],
  ["p/", "o", "p0", false],
  ["p/", "p/", "\0", false],
  ["p/", "p/a", "a", true],
  ["", "anything", "\0", true],
  ["", "\0", "\0", true],
])("prefix %j covers [%j, %j): %s", (prefix, key, end, expected) => {
  expect(covers([utf8(prefix)], { key: utf8(key), rangeEnd: utf8(end) })).toBe(expected);
});

test("the last prefix of all covers what follows it", () => {
  const last = Uint8Array.of(255, 255);
  const key = Uint8Array.of(255, 255, 1);
  expect(covers([last], { key, rangeEnd: Uint8Array.of(0) })).toBe(true);
  expect(covers([last], { key: Uint8Array.of(255), rangeEnd: Uint8Array.of(0) })).toBe(false);
});

describe("requests", () => {
  const txn = (op: ReturnType<typeof txnOp>): LinkRequest => ({
    method: "txn",
    op,
    serializable: false,
  });
  test.each<[string, LinkRequest, string]>([
    ["a read inside", range("r/a"), "ok"],
    ["a read of what it may only write", range("w/a"), "permissionDenied"],
    ["a range inside", range("r/", "r0"), "ok"],
    ["a range beyond", range("r/", "s"), "permissionDenied"],
    ["everything", range("\0", "\0"), "permissionDenied"],
    ["a write inside", { method: "put", op: putOp("w/a", "v") }, "ok"],
    [
      "a write of what it may only read",
      { method: "put", op: putOp("r/a", "v") },
      "permissionDenied",
    ],
    [
      "a write that answers what was there, without read",
      { method: "put", op: putOp("w/a", "v", { previousKv: true }) },
      "permissionDenied",
    ],
    [
      "a write that answers what was there, with read",
      { method: "put", op: putOp("rw/a", "v", { previousKv: true }) },
      "ok",
    ],
    ["a write under its lease", { method: "put", op: putOp("w/a", "v", { lease: own }) }, "ok"],
    [
      "a write under another's lease",
      { method: "put", op: putOp("w/a", "v", { lease: foreign }) },
      "leaseNotFound",
    ],
    ["a delete inside", { method: "deleteRange", op: deleteOp("w/", "w0") }, "ok"],
    ["a delete beyond", { method: "deleteRange", op: deleteOp("w/", "x") }, "permissionDenied"],
    [
      "a delete that answers what was there",
      { method: "deleteRange", op: deleteOp("w/a", "", true) },
      "permissionDenied",
    ],
    ["a compare that it may read", txn(txnOp([compare("r/a", "version", "equal", 1n)], [])), "ok"],
    [
      "a compare of what it may not read",
      txn(txnOp([compare("w/a", "version", "equal", 1n)], [putOp("w/a", "v")])),
      "permissionDenied",
    ],
    ["a nested write", txn(txnOp([], [txnOp([], [], [putOp("r/a", "v")])])), "permissionDenied"],
    ["a nested read", txn(txnOp([], [], [txnOp([], [rangeOp("x")])])), "permissionDenied"],
    ["a nested write inside", txn(txnOp([], [txnOp([], [putOp("w/a", "v")])])), "ok"],
    ["its lease's end", { method: "leaseRevoke", id: own }, "ok"],
    ["another's lease's end", { method: "leaseRevoke", id: foreign }, "leaseNotFound"],
    ["another's renewal", { method: "leaseKeepAlive", ids: [own, foreign] }, "leaseNotFound"],
    ["another's rest", { method: "leaseTimeToLive", id: foreign, keys: true }, "leaseNotFound"],
    ["a grant under its own id", { method: "leaseGrant", id: own, ttlSeconds: 5n }, "ok"],
    [
      "a grant under another's id",
      { method: "leaseGrant", id: 7n, ttlSeconds: 5n },
      "permissionDenied",
    ],
    ["the list of leases", { method: "leases" }, "permissionDenied"],
    ["a compaction", { method: "compact", revision: 5, physical: false }, "permissionDenied"],
    ["the members", { method: "memberList", linearizable: true }, "permissionDenied"],
    ["the status", { method: "status" }, "ok"],
  ])("%s", (_, request, expected) => {
    expect(outcome(GRANT, request)).toBe(expected);
    expect(outcome(EVERYTHING, request)).toBe("ok");
  });

  test("a granted lease carries its tenant's tag; who has no tenant or may not write gets none", () => {
    const request: LinkRequest = { method: "leaseGrant", id: 0n, ttlSeconds: 5n };
    const admitted = admit(GRANT, request);
    if (admitted.method !== "leaseGrant") throw new Error("a grant stays one");
    expect(isOwnLease(tenant, admitted.id)).toBe(true);
    expect(admitted.id).toBeLessThan(2n ** 63n);
    const again = { client: utf8("c"), sequence: 3, floor: 0 };
    expect(admit(GRANT, request, again)).toEqual(admit(GRANT, request, again));
    expect(admit(GRANT, request, again)).not.toEqual(
      admit(GRANT, request, { ...again, sequence: 4 }),
    );
    expect(outcome({ ...GRANT, tenant: undefined }, request)).toBe("permissionDenied");
    expect(outcome({ ...GRANT, write: [] }, request)).toBe("permissionDenied");
    expect(isOwnLease(tenant, -admitted.id)).toBe(false);
  });

  test("a watch needs to read all that it watches", () => {
    admitWatch(GRANT, { key: utf8("r/"), rangeEnd: utf8("r0") });
    expect(() => admitWatch(GRANT, { key: utf8("w/"), rangeEnd: EMPTY })).toThrow("permission");
    expect(() => admitWatch(GRANT, { key: EMPTY, rangeEnd: Uint8Array.of(0) })).toThrow();
  });
});

describe("the JSON gateway", () => {
  const b64 = (text: string): string => Buffer.from(text).toString("base64");
  const send = (path: string, body: object): unknown =>
    JSON.parse(admitGateway(GRANT, `/v3/${path}`, JSON.stringify(body)));

  test("what is admitted is written anew, whichever way its names were written", () => {
    const sent = { key: b64("r/"), rangeEnd: b64("r0") };
    expect(send("kv/range", { key: sent.key, range_end: sent.rangeEnd, extra: 1 })).toEqual(sent);
    expect(send("kv/put", { key: b64("w/a"), value: b64("v") })).toMatchObject({ key: b64("w/a") });
    expect(send("watch", { create_request: { key: b64("r/a") } })).toEqual({
      createRequest: { key: b64("r/a") },
    });
  });

  test("a lease's id may come as a number that a double would round", () => {
    const sent = admitGateway(GRANT, "/v3/lease/revoke", `{"ID":${own}}`);
    expect(JSON.parse(sent)).toEqual({ ID: `${own}` });
  });

  test.each<[string, object]>([
    ["kv/range", { key: b64("w/") }],
    ["kv/range", { key: b64("r/"), range_end: b64("\0") }],
    ["kv/put", { key: b64("r/a") }],
    ["kv/put", { key: b64("w/a"), prev_kv: true }],
    ["kv/deleterange", { key: b64("r/a") }],
    ["kv/txn", { success: [{ requestPut: { key: b64("r/a") } }] }],
    ["kv/txn", { compare: [{ key: b64("w/a"), target: "VERSION" }] }],
    ["kv/txn", { failure: [{ request_txn: { success: [{ request_range: { key: b64("x") } }] } }] }],
    ["watch", { createRequest: { key: b64("w/a") } }],
    ["lease/revoke", { ID: `${foreign}` }],
    ["lease/keepalive", { ID: `${foreign}` }],
    ["kv/compaction", { revision: "5" }],
    ["cluster/member/list", {}],
    ["auth/enable", {}],
    ["toString", {}],
  ])("%s %j is refused", (path, body) => {
    expect(() => send(path, body)).toThrow(/permission denied|lease not found/);
  });
});
