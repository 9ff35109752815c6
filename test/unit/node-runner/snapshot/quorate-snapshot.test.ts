/** Our own snapshot files: what is written is read, and damaged copies are refused by a typed error. */
import { createHash } from "node:crypto";
import * as fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import { openSnapshot } from "../../../../node-runner/snapshot/open-snapshot.ts";
import { fileOfBytes, SnapshotFileError } from "../../../../node-runner/snapshot/readable-file.ts";
import { MemoryBackend } from "../../../../shared/backend/memory-backend.ts";
import { concatBytes, utf8 } from "../../../../shared/base/bytes.ts";
import type { Bytes } from "../../../../shared/base/bytes.ts";
import { createStore } from "../../../../shared/mvcc/mvcc-store.ts";
import { PATIENT_CALL, startInProcessCluster } from "../../../support/in-process-cluster.ts";

let file: Bytes;
let hash: number;

function readAll(bytes: Bytes): "read" | "refused" {
  try {
    const source = openSnapshot(fileOfBytes(bytes), { checkHash: "never" });
    source.status();
    copyOf(bytes);
    return "read";
  } catch (error) {
    if (error instanceof SnapshotFileError) return "refused";
    throw error;
  }
}

function copyOf(bytes: Bytes) {
  const backend = new MemoryBackend();
  const steps = openSnapshot(fileOfBytes(bytes), { checkHash: "never" }).copy();
  for (let step = steps.next(); ; step = steps.next()) {
    if (step.done === true) return { backend, state: step.value };
    backend.apply(0, step.value);
  }
}

beforeAll(async () => {
  const cluster = startInProcessCluster();
  await cluster.ready();
  const { kv, lease, maintenance } = cluster.member(0).peer.services;
  const { id } = await lease.grant({ id: 7n, ttlSeconds: 60n }, PATIENT_CALL);
  for (let at = 0; at < 50; at += 1) {
    const put = { key: utf8(`key${at % 9}`), value: new Uint8Array(200).fill(at) };
    const flags = { previousKv: false, ignoreValue: false, ignoreLease: false };
    await kv.put({ kind: "put", ...put, lease: at % 2 === 0 ? id : 0n, ...flags }, PATIENT_CALL);
  }
  await kv.compact({ revision: 20, physical: true }, PATIENT_CALL);
  const activate = { action: "activate", member: 1n, alarm: "nospace" } as const;
  await maintenance.alarm(activate, PATIENT_CALL);
  ({ hash } = await maintenance.hashKv(0, PATIENT_CALL));
  const parts: Bytes[] = [];
  for await (const { bytes } of maintenance.snapshot(PATIENT_CALL)) parts.push(bytes);
  file = concatBytes(...parts);
  await cluster.stop();
});

test("its size and hash are as etcd's clients expect, and its content is the store's", () => {
  expect(file.length % 512).toBe(32);
  const digest = createHash("sha256").update(file.subarray(0, -32)).digest();
  expect(Buffer.compare(digest, file.subarray(-32))).toBe(0);
  expect(openSnapshot(fileOfBytes(file), { checkHash: "always" }).status()).toMatchObject({
    revision: 51,
    totalBytes: file.length,
  });
  const { backend, state } = copyOf(file);
  const notes = ["alarms of the old cluster are not taken over"];
  expect(state).toEqual({ revision: 51, compactRevision: 20, notes });
  const store = createStore(backend);
  const cursor = store.openHash(0);
  if ("code" in cursor) throw new Error(cursor.code);
  expect(cursor.advance({ rows: 1e6, bytes: 1e9 })).toBe(true);
  expect(cursor.result()).toEqual({ hash, hashRevision: 51, compactRevision: 20 });
  cursor.close();
});

test("cuts and changed bits are refused or harmless, and with the hash check always refused", () => {
  const damage = fc.record({
    length: fc.integer({ min: 0, max: file.length }),
    changes: fc.array(
      fc.record({
        at: fc.integer({ min: 0, max: file.length - 1 }),
        bits: fc.integer({ min: 1, max: 255 }),
      }),
      { maxLength: 5 },
    ),
  });
  fc.assert(
    fc.property(damage, ({ length, changes }) => {
      const damaged = file.slice();
      for (const { at, bits } of changes) damaged[at] = (damaged[at] ?? 0) ^ bits;
      for (const bytes of [damaged, damaged.slice(0, length)]) {
        readAll(bytes);
        if (Buffer.compare(bytes, file) === 0) continue;
        const open = () => openSnapshot(fileOfBytes(bytes), { checkHash: "always" });
        expect(open).toThrow(SnapshotFileError);
      }
    }),
    { numRuns: Number(process.env["FUZZ_RUNS"] ?? 300) },
  );
});
