/** The bytes of snapshots: golden ones, round trips of any content, and refusal of what is damaged, cut or newer. */
import { createHash } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MemoryBackend } from "../../../shared/backend/memory-backend.ts";
import type { Table } from "../../../shared/backend/backend.ts";
import { TABLES } from "../../../shared/backend/backend.ts";
import { hexOf, utf8 } from "../../../shared/base/bytes.ts";
import type { Bytes } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import {
  decodeChunk,
  encodeEnd,
  encodeHeader,
  encodeRows,
  SnapshotError,
} from "../../../shared/peer/state/snapshot-format.ts";
import { simpleMembership } from "../../../shared/raft/log-store.ts";

const header = {
  clusterId: 0xc1n,
  leaderTerm: 3,
  mark: { index: 258, term: 2, membership: simpleMembership(["1", "22"], ["333"]) },
};

function backendOf(rows: readonly [Table, Bytes, Bytes][]): MemoryBackend {
  const backend = new MemoryBackend();
  backend.apply(1, (writer) => {
    for (const [table, key, value] of rows) writer.put(table, key, value);
  });
  return backend;
}

function rowsOf(backend: MemoryBackend): string[] {
  const rows: string[] = [];
  for (const table of TABLES) {
    backend.scan(
      table,
      {},
      (key, value) => rows.push(`${table} ${hexOf(key)} ${hexOf(value)}`) > 0,
    );
  }
  return rows;
}

test("golden bytes (a change here makes versions unable to read each other's snapshots)", () => {
  expect(hexOf(encodeHeader(header))).toBe(
    "0101" +
      "00000000000000c1" +
      "0000000000000102" +
      "0000000000000002" +
      "0000000000000003" +
      "02" +
      "0131" +
      "023232" +
      "01" +
      "03333333" +
      hexOf(encodeHeader(header)).slice(-8),
  );
  const chunks = [...encodeRows(backendOf([["key", utf8("a"), utf8("b")]]).pin())];
  expect(chunks.map((chunk) => hexOf(chunk).slice(0, -8))).toEqual(["020101610162"]);
  expect(hexOf(encodeEnd(Uint8Array.of(7, 8))).slice(0, -8)).toBe("030708");
});

test("a header comes back as it was", () => {
  expect(decodeChunk(encodeHeader(header))).toEqual({ kind: "header", header });
});

test("a header in a joint change names the old voters, as version 2", () => {
  const membership = {
    ...simpleMembership(["1", "4"], ["3"]),
    votersOutgoing: ["1", "22"],
    autoLeave: true,
  };
  const joint = { ...header, mark: { ...header.mark, membership } };
  expect(decodeChunk(encodeHeader(joint))).toEqual({ kind: "header", header: joint });
  expect(hexOf(encodeHeader(joint)).slice(0, 4)).toBe("0102");
});

test("any content comes back row by row, in chunks of bounded size", () => {
  const bytes = fc.uint8Array({ minLength: 1, maxLength: 2000 });
  const row = fc.tuple(fc.constantFrom(...TABLES), bytes, fc.uint8Array({ maxLength: 100_000 }));
  fc.assert(
    fc.property(fc.array(row, { maxLength: 60 }), (rows) => {
      const backend = backendOf(rows);
      const copy = new MemoryBackend();
      for (const bytes of encodeRows(backend.pin())) {
        expect(bytes.length).toBeLessThan(2 * LIMITS.snapshotChunkBytes);
        const chunk = decodeChunk(bytes);
        if (chunk.kind !== "rows") throw new Error("a chunk of rows");
        copy.apply(1, (writer) => {
          for (const [key, value] of chunk.rows) writer.put(chunk.table, key, value);
        });
      }
      expect(rowsOf(copy)).toEqual(rowsOf(backend));
    }),
    { numRuns: 30 },
  );
});

describe("refuses", () => {
  test("any changed or missing byte", () => {
    const chunk = encodeHeader(header);
    for (let position = 0; position < chunk.length; position += 1) {
      const changed = chunk.slice();
      changed[position] = (chunk[position] as number) ^ 1;
      expect(() => decodeChunk(changed)).toThrow(SnapshotError);
      expect(() => decodeChunk(chunk.subarray(0, position))).toThrow(SnapshotError);
    }
  });

  test("random chunks, with a SnapshotError and nothing else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        expect(() => decodeChunk(bytes)).toThrow(SnapshotError);
      }),
      { numRuns: 500 },
    );
  });
});

test("the end carries a hash of all chunks before", () => {
  const hash = new Uint8Array(createHash("sha256").update("chunks").digest());
  expect(decodeChunk(encodeEnd(hash))).toEqual({ kind: "end", hash });
});

test("a stream whose view is gone leaves nothing in those that follow", () => {
  const view = backendOf([["key", utf8("a"), utf8("b")]]).pin();
  const stream = encodeRows(view);
  view.release();
  expect(() => stream.next()).toThrow("released");
  expect(decodeChunk(encodeHeader(header))).toEqual({ kind: "header", header });
});
