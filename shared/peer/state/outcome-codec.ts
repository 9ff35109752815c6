/**
 * The bytes of a command's outcome, as the write table keeps it. Every member must read what any
 * other wrote (rows travel in snapshots); numbers, bytes, text and ids as in `command-codec.ts`.
 *
 *   byte      version (1)
 *   byte      0 applied, 1 refused, 2 applied with a result that was too large to keep
 *   applied   number revision, byte whether a result follows, [result]
 *   refused   text, the error's code
 *
 *   result       byte 1 put: number revision, kvs (none or one)
 *                byte 2 deleteRange: numbers revision and deleted, kvs
 *                byte 3 range: numbers revision and count, byte more, kvs
 *                byte 4 txn: byte succeeded, number of results, the results
 *   kvs          number of them, each: bytes key, bytes value, numbers createRevision, modRevision,
 *                version, 8-byte lease
 */
import { isErrorCode } from "../../api/errors.ts";
import { assert, unreachable } from "../../base/assert.ts";
import { ByteReader } from "../../base/byte-reader.ts";
import { ByteWriter } from "../../base/byte-writer.ts";
import type { Bytes } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import type { KeyValue } from "../../mvcc/types.ts";
import type { OpResult } from "../services.ts";
import type { ApplyResult } from "./apply-operations.ts";

const LAYOUT_VERSION = 1;
const APPLIED = 0;
const REFUSED = 1;
const APPLIED_TOO_LARGE = 2;

/** Bytes that a key-value takes beside its key and value, at most. */
const KV_EXTRA_BYTES = 48;

const writer = new ByteWriter();

/** An outcome whose result exceeds `dedupOutcomeBytesMax` keeps only that the command was applied. */
export function encodeOutcome(outcome: ApplyResult): Bytes {
  writer.byte(LAYOUT_VERSION);
  if (outcome.kind === "refused") {
    writer.byte(REFUSED);
    writer.text(outcome.code);
    return writer.finish();
  }
  const { result, revision } = outcome;
  const fits = result === undefined || sizeOf(result) <= LIMITS.dedupOutcomeBytesMax;
  writer.byte(fits ? APPLIED : APPLIED_TOO_LARGE);
  writer.varint(revision);
  if (fits) {
    writer.byte(result === undefined ? 0 : 1);
    if (result !== undefined) writeResult(result);
  }
  return writer.finish();
}

/** A refusal with `writeForgotten` where the result was too large to keep. */
export function decodeOutcome(bytes: Bytes): ApplyResult {
  const reader = new ByteReader(bytes);
  assert(reader.byte() === LAYOUT_VERSION, "an outcome of a newer version");
  const kind = reader.byte();
  if (kind === REFUSED) {
    const code = reader.text();
    assert(isErrorCode(code), `an outcome names an unknown refusal, ${code}`);
    return { kind: "refused", code };
  }
  if (kind === APPLIED_TOO_LARGE) return { kind: "refused", code: "writeForgotten" };
  assert(kind === APPLIED, "an outcome of an unknown kind");
  const revision = reader.varint();
  const result = reader.byte() === 0 ? undefined : readResult(reader);
  return { kind: "applied", revision, result };
}

/** An estimate from above, cheap: nothing large is copied to find out that it is too large. */
function sizeOf(result: OpResult): number {
  switch (result.kind) {
    case "put":
      return 32 + (result.previous === undefined ? 0 : kvBytes([result.previous]));
    case "deleteRange":
      return 32 + kvBytes(result.previous);
    case "range":
      return 32 + kvBytes(result.result.kvs);
    case "txn":
      return result.results.reduce((sum, each) => sum + sizeOf(each), 32);
  }
}

function kvBytes(kvs: readonly KeyValue[]): number {
  return kvs.reduce((sum, kv) => sum + kv.key.length + kv.value.length + KV_EXTRA_BYTES, 0);
}

function writeResult(result: OpResult): void {
  switch (result.kind) {
    case "put":
      writer.byte(1);
      writer.varint(result.revision);
      writeKvs(result.previous === undefined ? [] : [result.previous]);
      return;
    case "deleteRange":
      writer.byte(2);
      writer.varint(result.revision);
      writer.varint(result.deleted);
      writeKvs(result.previous);
      return;
    case "range":
      writer.byte(3);
      writer.varint(result.revision);
      writer.varint(result.result.count);
      writer.byte(result.result.more ? 1 : 0);
      writeKvs(result.result.kvs);
      return;
    case "txn":
      writer.byte(4);
      writer.byte(result.succeeded ? 1 : 0);
      writer.varint(result.results.length);
      for (const each of result.results) writeResult(each);
  }
}

function readResult(reader: ByteReader): OpResult {
  const kind = reader.byte();
  switch (kind) {
    case 1: {
      const revision = reader.varint();
      return { kind: "put", revision, previous: readKvs(reader)[0] };
    }
    case 2: {
      const revision = reader.varint();
      const deleted = reader.varint();
      return { kind: "deleteRange", revision, deleted, previous: readKvs(reader) };
    }
    case 3: {
      const revision = reader.varint();
      const count = reader.varint();
      const more = reader.byte() === 1;
      return { kind: "range", revision, result: { count, more, kvs: readKvs(reader) } };
    }
    case 4: {
      const succeeded = reader.byte() === 1;
      const results = Array.from({ length: reader.varint() }, () => readResult(reader));
      return { kind: "txn", succeeded, results };
    }
    default:
      unreachable("a kept result is of a known kind");
  }
}

function writeKvs(kvs: readonly KeyValue[]): void {
  writer.varint(kvs.length);
  for (const kv of kvs) {
    writer.bytes(kv.key);
    writer.bytes(kv.value);
    writer.varint(kv.createRevision);
    writer.varint(kv.modRevision);
    writer.varint(kv.version);
    writer.fixed64(kv.lease);
  }
}

function readKvs(reader: ByteReader): KeyValue[] {
  return Array.from({ length: reader.varint() }, () => ({
    key: reader.bytes(),
    value: reader.bytes(),
    createRevision: reader.varint(),
    modRevision: reader.varint(),
    version: reader.varint(),
    lease: reader.int64(),
  }));
}
