/**
 * Hand-written encoders of the hot replies: header, key-values, Put, Range, LeaseKeepAlive and
 * Watch. protobuf-es spends microseconds on each, these a fraction; `test/unit/peer/proto` shows
 * that both write the same bytes.
 */
import {
  LENGTH_DELIMITED,
  sizeOfField,
  sizeOfInt64,
  sizeOfVarint,
  WireWriter,
} from "../../api/wire-format.ts";
import { EMPTY, utf8, type Bytes } from "../../base/bytes.ts";
import type { KeyValue } from "../../mvcc/types.ts";
import type { Header, RangeAnswer, WatchedEvent, WatchResponse } from "../services.ts";

export function sizeOfNumber(value: number): number {
  return value === 0 ? 0 : 1 + sizeOfVarint(value);
}

function sizeOfBigint(value: bigint): number {
  return value === 0n ? 0 : 1 + sizeOfInt64(value);
}

function sizeOfBytes(value: Bytes): number {
  return value.length === 0 ? 0 : sizeOfField(value.length);
}

/**
 * The header's ids as they are written. They are always those of this member, so the last ones
 * written are kept.
 */
const ids = { clusterId: 0n, memberId: 0n, encoded: EMPTY };

function encodedIds({ clusterId, memberId }: Header): Bytes {
  if (ids.clusterId === clusterId && ids.memberId === memberId) return ids.encoded;
  const writer = new WireWriter(sizeOfBigint(clusterId) + sizeOfBigint(memberId));
  writer.bigint(1, clusterId);
  writer.bigint(2, memberId);
  ids.clusterId = clusterId;
  ids.memberId = memberId;
  ids.encoded = writer.bytes;
  return ids.encoded;
}

export function sizeOfHeader(header: Header): number {
  return encodedIds(header).length + sizeOfNumber(header.revision) + sizeOfNumber(header.raftTerm);
}

export function writeHeader(writer: WireWriter, header: Header, size: number): void {
  writer.message(1, size);
  writer.raw(encodedIds(header));
  writer.number(3, header.revision);
  writer.number(4, header.raftTerm);
}

export function sizeOfKeyValue(kv: KeyValue): number {
  return (
    sizeOfBytes(kv.key) +
    sizeOfNumber(kv.createRevision) +
    sizeOfNumber(kv.modRevision) +
    sizeOfNumber(kv.version) +
    sizeOfBytes(kv.value) +
    sizeOfBigint(kv.lease)
  );
}

export function writeKeyValue(writer: WireWriter, field: number, kv: KeyValue, size: number): void {
  writer.message(field, size);
  writer.data(1, kv.key);
  writer.number(2, kv.createRevision);
  writer.number(3, kv.modRevision);
  writer.number(4, kv.version);
  writer.data(5, kv.value);
  writer.bigint(6, kv.lease);
}

export function encodePutResponse(answer: {
  header: Header;
  previous: KeyValue | undefined;
}): Bytes {
  const headerSize = sizeOfHeader(answer.header);
  const kvSize = answer.previous === undefined ? 0 : sizeOfKeyValue(answer.previous);
  const size = sizeOfField(headerSize) + (answer.previous === undefined ? 0 : sizeOfField(kvSize));
  const writer = new WireWriter(size);
  writeHeader(writer, answer.header, headerSize);
  if (answer.previous !== undefined) writeKeyValue(writer, 2, answer.previous, kvSize);
  return writer.bytes;
}

export function encodeRangeResponse(answer: RangeAnswer): Bytes {
  const headerSize = sizeOfHeader(answer.header);
  const sizes: number[] = [];
  let size = sizeOfField(headerSize) + (answer.more ? 2 : 0) + sizeOfNumber(answer.count);
  for (const kv of answer.kvs) {
    const kvSize = sizeOfKeyValue(kv);
    sizes.push(kvSize);
    size += sizeOfField(kvSize);
  }
  const writer = new WireWriter(size);
  writeHeader(writer, answer.header, headerSize);
  for (const [position, kv] of answer.kvs.entries()) {
    writeKeyValue(writer, 2, kv, sizes[position] as number);
  }
  writer.number(3, answer.more ? 1 : 0);
  writer.number(4, answer.count);
  return writer.bytes;
}

/** `ttlSeconds` 0: the lease is unknown. */
export function encodeKeepAliveResponse(answer: {
  header: Header;
  id: bigint;
  ttlSeconds: number;
}): Bytes {
  const headerSize = sizeOfHeader(answer.header);
  const writer = new WireWriter(
    sizeOfField(headerSize) + sizeOfBigint(answer.id) + sizeOfNumber(answer.ttlSeconds),
  );
  writeHeader(writer, answer.header, headerSize);
  writer.bigint(2, answer.id);
  writer.number(3, answer.ttlSeconds);
  return writer.bytes;
}

/** The slot of `WatchResponse.encoded` that holds the encoded events, tags included. */
const EVENTS_SLOT = "protobuf";

export function encodeWatchResponse(response: WatchResponse): Bytes {
  const events = encodedEvents(response);
  const reason = utf8(response.cancelReason);
  const headerSize = sizeOfHeader(response.header);
  const size =
    sizeOfField(headerSize) +
    sizeOfBigint(response.watchId) +
    (response.created ? 2 : 0) +
    (response.canceled ? 2 : 0) +
    sizeOfNumber(response.compactRevision) +
    sizeOfBytes(reason) +
    (response.fragment ? 2 : 0) +
    events.length;
  const writer = new WireWriter(size);
  writeHeader(writer, response.header, headerSize);
  writer.bigint(2, response.watchId);
  writer.number(3, response.created ? 1 : 0);
  writer.number(4, response.canceled ? 1 : 0);
  writer.number(5, response.compactRevision);
  writer.data(6, reason);
  writer.number(7, response.fragment ? 1 : 0);
  writer.raw(events);
  return writer.bytes;
}

/** Encoded once for all watchers that got the same events. */
function encodedEvents(response: WatchResponse): Bytes {
  const known = response.encoded.get(EVENTS_SLOT);
  if (known instanceof Uint8Array) return known;
  const sizes = response.events.map(sizesOfEvent);
  let size = 0;
  for (const { event } of sizes) size += sizeOfField(event);
  const writer = new WireWriter(size);
  for (const [position, event] of response.events.entries()) {
    writeEvent(writer, event, sizes[position] as EventSizes);
  }
  response.encoded.set(EVENTS_SLOT, writer.bytes);
  return writer.bytes;
}

interface EventSizes {
  readonly event: number;
  readonly kv: number;
  readonly previous: number;
}

function sizesOfEvent(event: WatchedEvent): EventSizes {
  const kv = sizeOfKeyValue(event.kv);
  const previous = event.previous === undefined ? 0 : sizeOfKeyValue(event.previous);
  const type = event.type === "delete" ? 2 : 0;
  const previousField = event.previous === undefined ? 0 : sizeOfField(previous);
  return { event: type + sizeOfField(kv) + previousField, kv, previous };
}

function writeEvent(writer: WireWriter, event: WatchedEvent, sizes: EventSizes): void {
  writer.tag(11, LENGTH_DELIMITED);
  writer.varint(sizes.event);
  writer.number(1, event.type === "delete" ? 1 : 0);
  writeKeyValue(writer, 2, event.kv, sizes.kv);
  if (event.previous !== undefined) writeKeyValue(writer, 3, event.previous, sizes.previous);
}
