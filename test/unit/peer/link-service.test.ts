/** peer/link-service: sessions, calls and watch streams of a link over a port in memory. */
import { describe, expect, test } from "vitest";
import { rpcError } from "../../../shared/api/errors.ts";
import { utf8 } from "../../../shared/base/bytes.ts";
import type { Bytes } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import { exchangeLink } from "../../../shared/peer/link-exchange.ts";
import { LINK_CLOSE, serveLink } from "../../../shared/peer/link-service.ts";
import { encodeCbor } from "../../../shared/wire/cbor.ts";
import { decodeReplyBatch, encodeCallFrame, joinFrames } from "../../../shared/wire/link-codec.ts";
import type { LinkCallFrame, LinkReplyFrame, LinkRequest } from "../../../shared/wire/link.ts";
import { MemoryServices } from "../../support/memory-services.ts";
import { watchRequest } from "../../support/watch-request.ts";
import { rangeOp } from "./driven-cluster.ts";

const hello: LinkCallFrame = { kind: "hello", version: 1, role: "client", token: "" };
const put = (key: string, value = "v"): LinkRequest => ({
  method: "put",
  op: {
    kind: "put",
    key: utf8(key),
    value: utf8(value),
    lease: 0n,
    previousKv: false,
    ignoreValue: false,
    ignoreLease: false,
  },
});
const call = (id: number, request: LinkRequest): LinkCallFrame => ({
  kind: "call",
  id,
  timeoutMilliseconds: 0,
  requireLeader: false,
  request,
});
const create = (startRevision: number, key = "k"): LinkCallFrame => ({
  kind: "watchCreate",
  stream: 1,
  create: watchRequest({ key: utf8(key), startRevision }),
});
const batchOf = (...frames: LinkCallFrame[]): Bytes => joinFrames(frames.map(encodeCallFrame));

function openLink(services = new MemoryServices(), accepts = (_token: string) => true) {
  const replies: LinkReplyFrame[] = [];
  const batches: number[] = [];
  const closes: number[] = [];
  const port = { ready: true };
  const session = serveLink(
    services,
    {
      send(batch) {
        const frames = decodeReplyBatch(batch);
        batches.push(frames.length);
        replies.push(...frames);
        return port.ready;
      },
      close: (code) => closes.push(code),
      defer: (callback) => void setImmediate(callback),
    },
    { clusterId: 1n, memberId: 2n, push: true, accepts },
  );
  const settled = async (): Promise<void> => {
    for (let turn = 0; turn < 5; turn += 1) await new Promise((done) => setImmediate(done));
  };
  return { services, session, replies, batches, closes, port, settled };
}

describe("a link's session", () => {
  test("greets, then answers pipelined calls in few batches", async () => {
    const link = openLink();
    link.session.receive(batchOf(hello, call(1, put("a")), call(2, put("b"))));
    await link.settled();
    expect(link.replies.map((frame) => frame.kind)).toEqual(["welcome", "result", "result"]);
    expect(link.replies[0]).toMatchObject({ clusterId: 1n, memberId: 2n });
    expect(link.batches.length).toBeLessThanOrEqual(2);
    expect(link.session.callsUnderWay).toBe(0);
  });

  test.each([
    ["a call before hello", batchOf(call(1, put("a")))],
    ["a second hello", batchOf(hello, hello)],
    ["bytes that are no CBOR", Uint8Array.of(0xff)],
    ["a frame that is not known", encodeCbor([[15, 1]])],
    ["one id twice", batchOf(hello, call(1, put("a")), call(1, put("a")))],
    ["a batch above the limit", new Uint8Array(LIMITS.frameBytesMax + 1)],
  ])("says bye and closes on %s", async (_name, batch) => {
    const link = openLink();
    link.session.receive(batch);
    await link.settled();
    expect(link.replies.at(-1)?.kind).toBe("bye");
    expect(link.closes).toEqual([LINK_CLOSE.protocolError]);
    expect(link.session.open).toBe(false);
    link.session.receive(batchOf(call(9, put("late"))));
    await link.settled();
    expect(link.services.calls).not.toContain("late");
  });

  test("refuses a wrong token and another version with a reason", () => {
    const guarded = openLink(new MemoryServices(), (token) => token === "right");
    guarded.session.receive(batchOf(hello));
    expect(guarded.replies[0]).toMatchObject({ failure: { status: "unauthenticated" } });
    expect(guarded.closes).toEqual([LINK_CLOSE.refused]);
    const newer = openLink();
    newer.session.receive(batchOf({ ...hello, version: 2 }));
    expect(newer.replies[0]).toMatchObject({ failure: { status: "failedPrecondition" } });
  });

  test("carries a refusal's status, code, outcome and whether to repeat it", async () => {
    const link = openLink();
    link.services.fault = {
      before: () => {
        throw rpcError("timeout", { outcome: "unknown" });
      },
    };
    link.session.receive(batchOf(hello, call(7, put("a"))));
    await link.settled();
    expect(link.replies[1]).toEqual({
      kind: "error",
      id: 7,
      failure: {
        status: "unavailable",
        message: "etcdserver: request timed out",
        code: "timeout",
        outcome: "unknown",
        retryable: false,
      },
    });
  });

  test("says that a write's outcome is unknown when the peer fails in a way of its own", async () => {
    const link = openLink();
    link.services.fault = {
      after: () => {
        throw new Error("disk on fire");
      },
    };
    link.session.receive(batchOf(hello, call(1, put("a")), call(2, { method: "leases" })));
    await link.settled();
    const failures = link.replies.filter((frame) => frame.kind === "error");
    expect(failures.map((frame) => frame.failure.outcome)).toEqual(["unknown", "none"]);
    expect(failures[0]?.failure.message).toContain("disk on fire");
  });

  test("bounds the calls under way and refuses the rest as retryable", async () => {
    const link = openLink();
    let free = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      free = resolve;
    });
    link.services.fault = { before: () => held };
    const calls = Array.from({ length: LIMITS.linkCallsMax + 1 }, (_, id) =>
      call(id, { method: "leases" }),
    );
    link.session.receive(batchOf(hello, ...calls));
    await link.settled();
    expect(link.replies.slice(1)).toMatchObject([
      { kind: "error", id: LIMITS.linkCallsMax, failure: { retryable: true } },
    ]);
    free();
    await link.settled();
    expect(link.replies.length).toBe(LIMITS.linkCallsMax + 2);
  });

  test("cancels its calls and closes its watch streams when the link is gone", async () => {
    const link = openLink();
    let cancelled = 0;
    link.services.fault = {
      before: (_method, context) =>
        new Promise((resolve) => {
          context.onCancel(() => {
            cancelled += 1;
            resolve();
          });
        }),
    };
    const open: LinkCallFrame = { kind: "watchOpen", stream: 1, requireLeader: false };
    link.session.receive(batchOf(hello, call(1, put("a")), open, create(0)));
    await link.settled();
    expect(link.services.openStreams).toBe(1);
    link.session.closed();
    await link.settled();
    expect([cancelled, link.services.openStreams]).toEqual([1, 0]);
    expect(link.replies.some((frame) => frame.kind === "result")).toBe(false);
  });
});

describe("a link's watch streams", () => {
  const open: LinkCallFrame = { kind: "watchOpen", stream: 1, requireLeader: false };

  test("push events, hold back while the port is full and go on when it drains", async () => {
    const link = openLink();
    link.session.receive(batchOf(hello, open, create(1)));
    await link.settled();
    link.port.ready = false;
    for (const value of ["1", "2", "3"]) {
      link.session.receive(batchOf(call(Number(value), put("k", value))));
      await link.settled();
    }
    const revisions = (): number[] =>
      link.replies.flatMap((frame) =>
        frame.kind === "watchResponse"
          ? frame.response.events.map((event) => event.kv.modRevision)
          : [],
      );
    expect(revisions().length).toBeLessThan(3);
    link.port.ready = true;
    link.session.drained();
    await link.settled();
    expect(revisions()).toEqual([2, 3, 4]);
  });

  test("tell of progress behind the linearizable read that was asked before, and at once without one", async () => {
    const link = openLink();
    const held = Promise.withResolvers<void>();
    const answers = (): string[] =>
      link.replies.flatMap((frame) => {
        if (frame.kind === "result") return [`read ${frame.id}`];
        if (frame.kind !== "watchResponse" || frame.response.watchId !== -1n) return [];
        return [`progress at ${frame.response.header.revision}`];
      });
    const range = (id: number, serializable: boolean): LinkCallFrame =>
      call(id, { method: "range", op: rangeOp("k"), serializable });
    const progress: LinkCallFrame = { kind: "watchProgress", stream: 1 };
    link.services.fault = { before: () => held.promise };
    link.session.receive(batchOf(hello, open, create(1), range(1, true), progress));
    await link.settled();
    expect(answers()).toEqual(["progress at 1"]);
    link.session.receive(batchOf(range(2, false), progress));
    await link.settled();
    expect(answers()).toHaveLength(1);
    // What is written until the read is answered is told of, too.
    link.services.fault = {};
    link.session.receive(batchOf(call(3, put("other"))));
    held.resolve();
    await link.settled();
    expect(answers().slice(1).toSorted()).toEqual(
      ["progress at 2", "read 1", "read 2", "read 3"].toSorted(),
    );
    expect(answers().indexOf("read 2")).toBeLessThan(answers().indexOf("progress at 2"));
    // A stream that was closed meanwhile is told nothing.
    const later = Promise.withResolvers<void>();
    link.services.fault = { before: () => later.promise };
    const close: LinkCallFrame = { kind: "watchClose", stream: 1 };
    link.session.receive(batchOf(range(4, false), progress, close));
    later.resolve();
    await link.settled();
    expect(answers().slice(5)).toEqual(["read 4"]);
  });

  test("answer frames for a stream that is over with nothing, and close on demand", async () => {
    const link = openLink();
    link.session.receive(batchOf(hello, open, create(0), { kind: "watchClose", stream: 1 }));
    link.session.receive(batchOf(create(0), { kind: "watchProgress", stream: 1 }));
    await link.settled();
    expect(link.services.openStreams).toBe(0);
    expect(link.session.open).toBe(true);
  });

  test("end with the reason when the peer opens none, and the link goes on", async () => {
    const services = new MemoryServices();
    let leader = false;
    const { watch } = services;
    const link = openLink(
      Object.assign(services, {
        watch: {
          open: (...asked: Parameters<typeof watch.open>) => {
            if (!leader) throw rpcError("noLeader");
            return watch.open(...asked);
          },
        },
      }),
    );
    link.session.receive(batchOf(hello, { ...open, requireLeader: true }, create(0)));
    await link.settled();
    const failure = { code: "noLeader", status: "unavailable" };
    expect(link.replies.slice(1)).toMatchObject([{ kind: "watchEnd", stream: 1, failure }]);
    leader = true;
    link.session.receive(batchOf(open, create(0)));
    await link.settled();
    expect(link.replies.at(-1)).toMatchObject({ kind: "watchResponse", stream: 1 });
  });
});

describe("an exchange over POST", () => {
  const options = {
    clusterId: 1n,
    memberId: 2n,
    accepts: (token: string) => token !== "wrong",
    defer: (callback: () => void) => void setImmediate(callback),
  };
  const exchange = async (batch: Bytes, services = new MemoryServices()) => {
    const batches = await exchangeLink(services, batch, options).answer;
    return batches.flatMap(decodeReplyBatch);
  };

  test("answers once all of its calls are done", async () => {
    const frames = await exchange(batchOf(hello, call(1, put("a")), call(2, { method: "status" })));
    expect(frames.map((frame) => frame.kind)).toEqual(["welcome", "result", "result"]);
  });

  test("answers a hello alone, and a wrong token with bye", async () => {
    expect(await exchange(batchOf(hello))).toMatchObject([{ kind: "welcome" }]);
    const refused = await exchange(batchOf({ ...hello, token: "wrong" }));
    expect(refused).toMatchObject([{ kind: "bye", failure: { status: "unauthenticated" } }]);
  });

  test.each([
    ["no frames", batchOf(), "begins with hello"],
    ["bytes that are no CBOR", Uint8Array.of(0xa0), "not part of the protocol"],
    ["a watch", batchOf(hello, { kind: "watchOpen", stream: 1, requireLeader: false }), "push"],
  ])("rejects %s", async (_name, batch, text) => {
    await expect(exchange(batch)).rejects.toThrow(text);
  });
});
