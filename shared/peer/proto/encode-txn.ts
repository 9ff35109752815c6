/**
 * Hand-written encoders of transactions' and deletions' replies, for the same reason as those of
 * `encode.ts`, and with the same test. A first pass takes the sizes, since a message stands behind
 * its length; the second writes.
 */
import { sizeOfField, WireWriter } from "../../api/wire-format.ts";
import type { Bytes } from "../../base/bytes.ts";
import type { KeyValue } from "../../mvcc/types.ts";
import type { Header, OpResult } from "../services.ts";
import {
  sizeOfHeader,
  sizeOfKeyValue,
  sizeOfNumber,
  writeHeader,
  writeKeyValue,
} from "./encode.ts";

const HEADER = 1;
/** Fields of a ResponseOp, by what it answers. */
const RESPONSE_OP = { range: 1, put: 2, deleteRange: 3, txn: 4 } as const;
/** Fields of key-values in the three replies that have some. */
const KEY_VALUES = { range: 2, put: 2, deleteRange: 3 } as const;
const NONE: readonly never[] = [];

/** The size of one result's own message, with those of what it holds. */
interface ResultSize {
  readonly size: number;
  readonly keyValues: readonly number[];
  readonly results: readonly ResultSize[];
}

export function encodeDeleteRangeResponse(answer: {
  readonly header: Header;
  readonly deleted: number;
  readonly previous: readonly KeyValue[];
}): Bytes {
  const { header, deleted, previous } = answer;
  const headerSize = sizeOfHeader(header);
  const sizes = previous.map(sizeOfKeyValue);
  const writer = new WireWriter(
    sizeOfField(headerSize) + sizeOfNumber(deleted) + sizeOfFields(sizes),
  );
  writeHeader(writer, header, headerSize);
  writer.number(2, deleted);
  writeKeyValues(writer, KEY_VALUES.deleteRange, previous, sizes);
  return writer.bytes;
}

export function encodeTxnResponse(answer: {
  readonly header: Header;
  readonly succeeded: boolean;
  readonly results: readonly OpResult[];
}): Bytes {
  const headerSize = sizeOfHeader(answer.header);
  const sizes = answer.results.map(sizeOfResult);
  const writer = new WireWriter(
    sizeOfField(headerSize) + (answer.succeeded ? 2 : 0) + sizeOfResults(sizes),
  );
  writeHeader(writer, answer.header, headerSize);
  writer.number(2, answer.succeeded ? 1 : 0);
  writeResults(writer, answer.results, sizes);
  return writer.bytes;
}

/** Embedded messages of these sizes, each with its tag and length. */
function sizeOfFields(sizes: readonly number[]): number {
  let size = 0;
  for (const each of sizes) size += sizeOfField(each);
  return size;
}

/** Each result is a ResponseOp that holds one message. */
function sizeOfResults(sizes: readonly ResultSize[]): number {
  let total = 0;
  for (const { size } of sizes) total += sizeOfField(sizeOfField(size));
  return total;
}

/** Inside a transaction headers have the revision alone. */
function sizeOfInnerHeader(revision: number): number {
  return sizeOfField(sizeOfNumber(revision));
}

function sizeOfResult(result: OpResult): ResultSize {
  if (result.kind === "txn") {
    const results = result.results.map(sizeOfResult);
    const size = sizeOfField(0) + (result.succeeded ? 2 : 0) + sizeOfResults(results);
    return { size, keyValues: NONE, results };
  }
  const keyValues = keyValuesOf(result).map(sizeOfKeyValue);
  let size = sizeOfInnerHeader(result.revision) + sizeOfFields(keyValues);
  if (result.kind === "deleteRange") size += sizeOfNumber(result.deleted);
  if (result.kind === "range") {
    size += (result.result.more ? 2 : 0) + sizeOfNumber(result.result.count);
  }
  return { size, keyValues, results: NONE };
}

function keyValuesOf(result: Exclude<OpResult, { kind: "txn" }>): readonly KeyValue[] {
  if (result.kind === "range") return result.result.kvs;
  if (result.kind === "deleteRange") return result.previous;
  return result.previous === undefined ? NONE : [result.previous];
}

function writeResults(
  writer: WireWriter,
  results: readonly OpResult[],
  sizes: readonly ResultSize[],
): void {
  for (const [position, result] of results.entries()) {
    const sized = sizes[position] as ResultSize;
    writer.message(3, sizeOfField(sized.size));
    writer.message(RESPONSE_OP[result.kind], sized.size);
    writeResult(writer, result, sized);
  }
}

function writeResult(writer: WireWriter, result: OpResult, sized: ResultSize): void {
  if (result.kind === "txn") {
    writer.message(HEADER, 0);
    writer.number(2, result.succeeded ? 1 : 0);
    writeResults(writer, result.results, sized.results);
    return;
  }
  writer.message(HEADER, sizeOfNumber(result.revision));
  writer.number(3, result.revision);
  if (result.kind === "deleteRange") writer.number(2, result.deleted);
  writeKeyValues(writer, KEY_VALUES[result.kind], keyValuesOf(result), sized.keyValues);
  if (result.kind !== "range") return;
  writer.number(3, result.result.more ? 1 : 0);
  writer.number(4, result.result.count);
}

function writeKeyValues(
  writer: WireWriter,
  field: number,
  kvs: readonly KeyValue[],
  sizes: readonly number[],
): void {
  for (const [position, kv] of kvs.entries()) {
    writeKeyValue(writer, field, kv, sizes[position] as number);
  }
}
