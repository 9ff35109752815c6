/** Snapshots to members: the sender's rate, and a receiver that slows it down. */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { MemoryBackend } from "../../../shared/backend/memory-backend.ts";
import { utf8 } from "../../../shared/base/bytes.ts";
import type { Bytes } from "../../../shared/base/bytes.ts";
import { chunksOf } from "../../../shared/peer/consensus/snapshots.ts";
import { decodeChunk } from "../../../shared/peer/state/snapshot-format.ts";
import { simpleMembership } from "../../../shared/raft/log-store.ts";
import { ManualClock } from "../../support/clocks.ts";
import { PATIENT_CALL, type InProcessMember } from "../../support/in-process-cluster.ts";
import { get, put, startDriven, valueOf } from "./driven-cluster.ts";

const ROWS = 400;
const ROW_BYTES = 10_000;

/** Milliseconds that it takes to pull a snapshot of 4 MB, by a receiver that needs so long for a chunk. */
async function pulled(bytesPerSecond: number | undefined, receiver: number): Promise<number> {
  const clock = new ManualClock();
  const backend = new MemoryBackend();
  backend.apply(1, (writer) => {
    for (let row = 0; row < ROWS; row += 1) {
      writer.put("key", utf8(String(row)), new Uint8Array(ROW_BYTES));
    }
  });
  const host = {
    now: () => clock.now(),
    schedule: clock.schedule.bind(clock),
    defer: clock.defer.bind(clock),
    sha256: () => {
      const hash = createHash("sha256");
      return {
        update: (bytes: Uint8Array) => void hash.update(bytes),
        digest: () => hash.digest(),
      };
    },
  };
  const mark = { index: 1, term: 1, membership: simpleMembership(["1"]) };
  const header = { clusterId: 1n, leaderTerm: 1, mark };
  const began = clock.now();
  let done = false;
  const pull = async (): Promise<void> => {
    for await (const chunk of chunksOf(backend.pin(), header, host, bytesPerSecond)) {
      expect(chunk.length).toBeGreaterThan(0);
      await new Promise<void>((resolve) => void clock.schedule(receiver, resolve));
    }
    done = true;
  };
  const pulling = pull();
  await clock.until(() => done);
  await pulling;
  return clock.now() - began;
}

test("a stream leaves at the rate that is allowed, however fast its receiver is", async () => {
  const seconds = 2;
  const took = await pulled((ROWS * ROW_BYTES) / seconds, 0);
  expect(took).toBeGreaterThanOrEqual(seconds * 1000);
  expect(took).toBeLessThan(seconds * 1200);
  expect(await pulled(undefined, 0)).toBeLessThan(100);
});

test("the time that a receiver takes is not added to it", async () => {
  const seconds = 2;
  const took = await pulled((ROWS * ROW_BYTES) / seconds, 50);
  expect(took).toBeLessThan(seconds * 1200);
});

test("a receiver takes no more chunks while its disk has not kept up", async () => {
  const { cluster, settled, clock } = await startDriven();
  const leader = cluster.member(0);
  for (let row = 0; row < 40; row += 1) await settled(put(leader, `k${row}`, "v".repeat(50_000)));
  const options = { peerUrls: ["http://m2:2380"], isLearner: false };
  const added = await settled(leader.peer.services.cluster.memberAdd(options, PATIENT_CALL));
  const joined = cluster.join(added.member.id);
  joined.crash();
  let congested = true;
  let applied = 0;
  const backend = new MemoryBackend();
  const makeShadow = backend.shadow.bind(backend);
  backend.shadow = () => {
    const shadow = makeShadow();
    return {
      get congested() {
        return congested;
      },
      apply(fill) {
        applied += 1;
        shadow.apply(fill);
      },
      install: (index, switched) => shadow.install(index, switched),
      discard: () => shadow.discard(),
    };
  };
  joined.backend = backend;
  joined.start();
  await clock.until(() => applied > 0);
  await clock.advance(3000);
  expect(applied).toBe(1);
  congested = false;
  await settled(joined.peer.ready());
  expect(applied).toBeGreaterThan(5);
  expect(valueOf(await settled(get(joined, "k39")))).toHaveLength(50_000);
  await settled(cluster.stop());
});

/** A follower that lags by a snapshot of about 30 chunks, and a network that carries `streams` in turn. */
async function startLagging(chunksOfStreams: readonly number[]) {
  const driven = await startDriven({
    members: 3,
    config: { compactLogEvery: 10, catchUpEntries: 0 },
  });
  const { cluster, settled } = driven;
  const leader = await driven.leader();
  const follower = cluster.followers[0] as InProcessMember;
  follower.crash();
  for (let row = 0; row < 80; row += 1) {
    await settled(put(leader, `k${row}`, String(row).repeat(50_000)));
  }
  const streams: Bytes[][] = [];
  const carry = cluster.network.carryChunks;
  cluster.network.carryChunks = async function* carried(chunks) {
    const most = chunksOfStreams[streams.length] ?? Number.POSITIVE_INFINITY;
    const stream: Bytes[] = [];
    streams.push(stream);
    for await (const chunk of carry(chunks)) {
      stream.push(chunk);
      yield chunk;
      if (stream.length >= most) throw new Error("the link broke");
    }
  };
  return { ...driven, leader, follower, streams };
}

const kindsOf = (stream: readonly Bytes[]) => stream.map((chunk) => decodeChunk(chunk).kind);

test("a broken stream goes on behind what came: no chunk is sent twice", async () => {
  const { cluster, settled, follower, streams, clock } = await startLagging([5, 4]);
  follower.start();
  await clock.until(() => streams.length === 3);
  await settled(follower.peer.ready());
  expect(valueOf(await settled(get(follower, "k79")))).toHaveLength(100_000);
  const [first = [], second = [], third = []] = streams;
  expect([kindsOf(first)[0], kindsOf(second)[0], kindsOf(third)[0]]).toEqual([
    "header",
    "resume",
    "resume",
  ]);
  expect([first.length, second.length]).toEqual([5, 4]);
  expect(kindsOf(third).at(-1)).toBe("end");
  const sent = streams.flat().filter((chunk) => decodeChunk(chunk).kind === "rows");
  expect(new Set(sent).size).toBe(sent.length);
  await settled(cluster.stop());
});

test("a receiver that was started again gets a new stream, and so does one that comes too late", async () => {
  const { cluster, settled, follower, streams, clock } = await startLagging([5, 5]);
  follower.start();
  await clock.until(() => streams[0]?.length === 5);
  follower.crash();
  follower.start();
  await clock.until(() => streams[1]?.length === 5);
  follower.crash();
  await clock.advance(60_000);
  follower.start();
  await clock.until(() => streams.length === 3);
  await settled(follower.peer.ready());
  expect(streams.map((stream) => kindsOf(stream)[0])).toEqual(["header", "header", "header"]);
  expect(valueOf(await settled(get(follower, "k79")))).toHaveLength(100_000);
  await settled(cluster.stop());
});
