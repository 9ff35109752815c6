/**
 * etcd's stored form of a change, for HashKV: the key of a row in its bucket `key` and the protobuf bytes of
 * mvccpb.KeyValue (key = 1, create_revision = 2, mod_revision = 3, version = 4, value = 5, lease = 6; zero fields are
 * left out). Equal histories hash alike here and there.
 */
import { ByteWriter } from "../base/byte-writer.ts";
import { type Bytes, writeUint64 } from "../base/bytes.ts";
import type { ChangeId } from "./key-layout.ts";
import type { KeyValue } from "./types.ts";

const UNDERSCORE = 0x5f;
const LETTER_T = 0x74;

/** Each function below leaves it empty. */
const writer = new ByteWriter();

/** main, 8 bytes | `_` | sub, 8 bytes | `t` if it is a tombstone. */
export function encodeBucketKey({ main, sub, tombstone }: ChangeId): Bytes {
  const key = new Uint8Array(tombstone ? 18 : 17);
  writeUint64(key, 0, main);
  key[8] = UNDERSCORE;
  writeUint64(key, 9, sub);
  if (tombstone) key[17] = LETTER_T;
  return key;
}

/** A tombstone's key-value has its key only. */
export function encodeTombstoneProto(key: Bytes): Bytes {
  bytesField(1, key);
  return writer.finishShared();
}

export function encodeKeyValueProto(kv: KeyValue): Bytes {
  bytesField(1, kv.key);
  numberField(2, kv.createRevision);
  numberField(3, kv.modRevision);
  numberField(4, kv.version);
  bytesField(5, kv.value);
  leaseField(6, kv.lease);
  return writer.finishShared();
}

function bytesField(field: number, bytes: Bytes): void {
  if (bytes.length === 0) return;
  writer.byte((field << 3) | 2);
  writer.bytes(bytes);
}

function numberField(field: number, value: number): void {
  if (value === 0) return;
  writer.byte(field << 3);
  writer.varint(value);
}

/** A negative id has the ten bytes that protobuf gives it. */
function leaseField(field: number, lease: bigint): void {
  if (lease === 0n) return;
  writer.byte(field << 3);
  let rest = BigInt.asUintN(64, lease);
  for (; rest >= 128n; rest >>= 7n) writer.byte(Number(rest & 127n) | 128);
  writer.byte(Number(rest));
}
