/** Snapshots to members: the sender's rate, and a receiver that slows it down. */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { MemoryBackend } from "../../../shared/backend/memory-backend.ts";
import { utf8 } from "../../../shared/base/bytes.ts";
import { chunksOf } from "../../../shared/peer/consensus/snapshots.ts";
import { simpleMembership } from "../../../shared/raft/log-store.ts";
import { ManualClock } from "../../support/clocks.ts";
import { PATIENT_CALL } from "../../support/in-process-cluster.ts";
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
