/** Watch streams: ids, order, failures, progress, fragments and slow readers. */
import { beforeEach, describe, expect, test } from "vitest";
import { errorText } from "../../../shared/api/errors.ts";
import type { RpcError } from "../../../shared/api/errors.ts";
import { textOf, utf8 } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import type { WatchCreate, WatchResponse, WatchSink } from "../../../shared/peer/services.ts";
import { PATIENT_CALL } from "../../support/in-process-cluster.ts";
import type { InProcessMember } from "../../support/in-process-cluster.ts";
import { watchRequest } from "../../support/watch-request.ts";
import { deleteOp, put, putOp, startDriven, txnOp } from "./driven-cluster.ts";
import type { Driven } from "./driven-cluster.ts";

/** Takes all, or is full from the `room`-th response on. */
class RecordingSink implements WatchSink {
  readonly responses: WatchResponse[] = [];
  room = Number.POSITIVE_INFINITY;
  error: RpcError | undefined;

  send(response: WatchResponse): boolean {
    this.responses.push(response);
    this.room -= 1;
    return this.room > 0;
  }

  end(error: RpcError): void {
    this.error = error;
  }

  /** Short forms of what has come since the last call. */
  take(): string[] {
    return this.responses.splice(0).map(describeResponse);
  }
}

function describeResponse(response: WatchResponse): string {
  const events = response.events.map(({ type, kv, previous }) => {
    const before = previous === undefined ? "" : ` was ${textOf(previous.value)}`;
    const value = type === "put" ? `=${textOf(kv.value)}` : "";
    return `${type} ${textOf(kv.key)}${value}@${kv.modRevision}${before}`;
  });
  const flags = [
    response.created ? "created" : "",
    response.canceled ? "canceled" : "",
    response.fragment ? "fragment" : "",
    response.compactRevision > 0 ? `compact ${response.compactRevision}` : "",
    response.cancelReason,
  ].filter((flag) => flag !== "");
  return [`${response.watchId}:r${response.header.revision}`, ...flags, ...events].join(" ");
}

function request(key: string, rangeEnd = "", more: Partial<WatchCreate> = {}): WatchCreate {
  return watchRequest({ key: utf8(key), rangeEnd: utf8(rangeEnd), ...more });
}

let driven: Driven;
let member: InProcessMember;
let sink: RecordingSink;

beforeEach(async () => {
  driven = await startDriven({ config: { progressNotifyMilliseconds: 5000 } });
  member = driven.cluster.member(0);
  sink = new RecordingSink();
});

const open = (to = sink) => member.peer.services.watch.open(to, PATIENT_CALL);

function write(key: string, value: string) {
  return driven.settled(put(member, key, value));
}

function kv() {
  return member.peer.services.kv;
}

describe("creation", () => {
  test("is answered first, with ids from 0 on that skip those in use", async () => {
    const stream = open();
    stream.create(request("a"));
    stream.create(request("a", "", { watchId: 1n }));
    stream.create(request("a"));
    stream.create(request("a", "", { watchId: 2n }));
    await driven.clock.settle();
    expect(sink.take()).toEqual([
      "0:r1 created",
      "1:r1 created",
      "2:r1 created",
      `-1:r1 created canceled ${errorText("watchIdTaken")}`,
    ]);
  });

  test.each([
    ["a negative start", request("a", "", { startRevision: -1 }), errorText("compacted")],
    ["an empty range", request("b", "a"), errorText("watchRangeEmpty")],
    ["a range from a key to itself", request("b", "b"), errorText("watchRangeEmpty")],
  ])(
    "fails for %s as created and canceled at once; the stream stays open",
    async (_name, bad, reason) => {
      const stream = open();
      stream.create(bad);
      stream.create(request("a"));
      await write("a", "1");
      expect(sink.take()).toEqual([
        `-1:r1 created canceled ${reason}`,
        "0:r1 created",
        "0:r2 put a=1@2",
      ]);
    },
  );

  test("an empty key with an open end watches everything", async () => {
    const stream = open();
    stream.create(request("", "\0"));
    await write("a", "1");
    expect(sink.take()).toEqual(["0:r1 created", "0:r2 put a=1@2"]);
  });
});

describe("events", () => {
  test("of one revision come in one response, in the order of the operations", async () => {
    open().create(request("a", "z"));
    await write("b", "0");
    const txn = txnOp([], [putOp("c", "1"), deleteOp("b"), putOp("a", "2")]);
    await driven.settled(kv().txn(txn, { serializable: false }, PATIENT_CALL));
    expect(sink.take()).toEqual([
      "0:r1 created",
      "0:r2 put b=0@2",
      "0:r3 put c=1@3 delete b@3 put a=2@3",
    ]);
  });

  test("carry the previous key-value where it was asked for, except for creations", async () => {
    const stream = open();
    stream.create(request("a", "", { previousKv: true }));
    stream.create(request("a"));
    await write("a", "1");
    await write("a", "2");
    await driven.settled(kv().deleteRange(deleteOp("a"), PATIENT_CALL));
    const mine = sink.take().filter((each) => each.startsWith("0:"));
    expect(mine).toEqual([
      "0:r1 created",
      "0:r2 put a=1@2",
      "0:r3 put a=2@3 was 1",
      "0:r4 delete a@4 was 2",
    ]);
  });

  test("are filtered by kind; a response without events isn't sent", async () => {
    const stream = open();
    stream.create(request("a", "", { noPut: true }));
    stream.create(request("a", "", { noDelete: true }));
    await write("a", "1");
    await driven.settled(kv().deleteRange(deleteOp("a"), PATIENT_CALL));
    expect(sink.take().slice(2)).toEqual(["1:r2 put a=1@2", "0:r3 delete a@3"]);
  });

  test("of the past are replayed, of the future awaited; history carries the current revision", async () => {
    for (const value of ["1", "2", "3"]) await write("a", value);
    const stream = open();
    stream.create(request("a", "", { startRevision: 3 }));
    stream.create(request("a", "", { startRevision: 6 }));
    await driven.clock.advance(200);
    expect(sink.take()).toEqual(["0:r4 created", "1:r4 created", "0:r4 put a=2@3 put a=3@4"]);
    await write("a", "4");
    await write("a", "5");
    const live = sink.take().toSorted();
    expect(live).toEqual(["0:r5 put a=4@5", "0:r6 put a=5@6", "1:r6 put a=5@6"]);
  });

  test("the encoded form is shared by all watchers of the same events", async () => {
    const stream = open();
    stream.create(request("a"));
    stream.create(request("a"));
    await write("a", "1");
    const [, , first, second] = sink.responses;
    expect(first?.events).toBe(second?.events);
    expect(first?.encoded).toBe(second?.encoded);
  });

  test("compacted ones: created with an id, then canceled with the compacted revision and no other", async () => {
    for (const value of ["1", "2", "3"]) await write("a", value);
    await driven.settled(kv().compact({ revision: 4, physical: true }, PATIENT_CALL));
    const stream = open();
    stream.create(request("a", "", { startRevision: 2 }));
    stream.create(request("a", "", { startRevision: 4 }));
    await driven.clock.advance(200);
    expect(sink.take()).toEqual([
      "0:r4 created",
      "0:r0 canceled compact 4",
      "1:r4 created",
      "1:r4 put a=3@4",
    ]);
    stream.cancel(0n);
    expect(sink.take()).toEqual([]);
  });

  test("too many bytes for one message are split where it was asked for", async () => {
    const stream = open();
    stream.create(request("a", "z", { fragment: true }));
    stream.create(request("a", "z"));
    const big = "v".repeat(400_000);
    for (const key of ["a", "b", "c", "d", "e", "f", "g", "h"]) await write(key, big);
    sink.take();
    stream.create(request("a", "z", { fragment: true, startRevision: 2 }));
    await driven.clock.advance(200);
    const parts = sink.responses.filter((each) => each.events.length > 0);
    expect(parts.length).toBeGreaterThan(1);
    expect(parts.map((each) => each.fragment)).toEqual([...parts.slice(1).map(() => true), false]);
    expect(parts.flatMap((each) => each.events.map((event) => textOf(event.kv.key))).join("")).toBe(
      "abcdefgh",
    );
    for (const part of parts) {
      const bytes = part.events.reduce((sum, { kv }) => sum + kv.value.length, 0);
      expect(bytes).toBeLessThan(LIMITS.requestBytesMax + LIMITS.requestOverheadBytes);
    }
  });
});

describe("cancel and progress", () => {
  test("a known id is confirmed and silent from then on; an unknown one isn't answered", async () => {
    const stream = open();
    stream.create(request("a"));
    stream.cancel(0n);
    stream.cancel(0n);
    stream.cancel(7n);
    await write("a", "1");
    expect(sink.take()).toEqual(["0:r1 created", "0:r1 canceled"]);
  });

  test("of the stream: one answer under -1 if all watchers are synced, none otherwise", async () => {
    await write("a", "1");
    const stream = open();
    stream.progress();
    expect(sink.take()).toEqual([]);
    stream.create(request("a", "", { startRevision: 1 }));
    stream.progress();
    expect(sink.take()).toEqual(["0:r2 created"]);
    await driven.clock.advance(200);
    sink.take();
    stream.progress();
    expect(sink.take()).toEqual(["-1:r2"]);
    stream.create(request("a", "", { startRevision: 9 }));
    stream.progress();
    expect(sink.take()).toEqual(["1:r2 created"]);
  });

  test("of a watcher: after an interval without events, at the current revision", async () => {
    const stream = open();
    stream.create(request("a", "", { progressNotify: true }));
    stream.create(request("b"));
    sink.take();
    await driven.clock.advance(5600);
    expect(sink.take()).toEqual(["0:r1"]);
    await write("a", "1");
    await driven.clock.advance(5000);
    expect(sink.take()).toEqual(["0:r2 put a=1@2"]);
    await driven.clock.advance(5600);
    expect(sink.take()).toEqual(["0:r2"]);
  });
});

test("progress at the least interval comes about as often as it says, though ticks are as long", async () => {
  const own = await startDriven({ config: { progressNotifyMilliseconds: 100 } });
  const told = new RecordingSink();
  const stream = own.cluster.member(0).peer.services.watch.open(told, PATIENT_CALL);
  stream.create(request("a", "", { progressNotify: true }));
  told.take();
  await own.clock.advance(10_000);
  const { length } = told.take();
  // An interval has up to a tenth more.
  expect(length).toBeGreaterThan(90);
  expect(length).toBeLessThanOrEqual(100);
});

describe("slow readers and ends", () => {
  test("a full sink holds its watchers back; all comes later, once and in order", async () => {
    const fast = new RecordingSink();
    open(fast).create(request("a"));
    const stream = open();
    stream.create(request("a"));
    sink.room = 1;
    for (const value of ["1", "2", "3", "4"]) await write("a", value);
    await driven.clock.advance(1000);
    expect(sink.take()).toEqual(["0:r1 created", "0:r2 put a=1@2"]);
    expect(fast.take()).toHaveLength(5);
    sink.room = Number.POSITIVE_INFINITY;
    stream.resume();
    await driven.clock.advance(200);
    await write("a", "5");
    expect(sink.take()).toEqual(["0:r5 put a=2@3 put a=3@4 put a=4@5", "0:r6 put a=5@6"]);
  });

  test("a closed stream is told nothing more; a stopped peer ends the others", async () => {
    const closed = new RecordingSink();
    const stream = open(closed);
    stream.create(request("a"));
    open().create(request("a"));
    stream.close();
    await write("a", "1");
    await driven.settled(member.stop());
    expect(closed.take()).toEqual(["0:r1 created"]);
    expect([closed.error, sink.error?.code]).toEqual([undefined, "stopped"]);
  });

  test("streams that require a leader end three elections after it is lost, others don't", async () => {
    const three = await startDriven({ members: 3 });
    const follower = three.cluster.followers[0] as InProcessMember;
    const { watch } = follower.peer.services;
    const requiring = { ...PATIENT_CALL, requireLeader: true };
    const strict = new RecordingSink();
    watch.open(strict, requiring).create(request("a"));
    watch.open(sink, PATIENT_CALL).create(request("a"));
    for (const each of three.cluster.members) three.cluster.network.isolate(each.nodeId);
    await three.clock.until(() => follower.peer.raftStatus().leader === undefined);
    await three.clock.advance(2900);
    expect(strict.error).toBeUndefined();
    await three.clock.advance(300);
    expect([strict.error?.code, sink.error]).toEqual(["noLeader", undefined]);
    expect(() => watch.open(new RecordingSink(), requiring)).toThrow(errorText("noLeader"));
  });
});
