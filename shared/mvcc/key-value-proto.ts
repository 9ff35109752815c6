/**
 * etcd's stored form of a change, for HashKV: the key of a row in its bucket `key` and the protobuf bytes of
 * mvccpb.KeyValue (key = 1, create_revision = 2, mod_revision = 3, version = 4, value = 5, lease = 6; zero fields are
 * left out). Equal histories hash alike here and there.
 */
import { type Bytes, writeUint64 } from "../base/bytes.ts";
import type { ChangeId } from "./key-layout.ts";
import type { KeyValue } from "./types.ts";

const UNDERSCORE = 0x5f;
const LETTER_T = 0x74;

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
  const bytes: number[] = [];
  pushBytesField(bytes, 1, key);
  return Uint8Array.from(bytes);
}

export function encodeKeyValueProto(kv: KeyValue): Bytes {
  const head: number[] = [];
  pushBytesField(head, 1, kv.key);
  pushNumberField(head, 2, kv.createRevision);
  pushNumberField(head, 3, kv.modRevision);
  pushNumberField(head, 4, kv.version);
  const tail: number[] = [];
  if (kv.value.length > 0) {
    head.push((5 << 3) | 2);
    pushVarint(head, kv.value.length);
  }
  if (kv.lease !== 0n) {
    tail.push(6 << 3);
    pushBigVarint(tail, BigInt.asUintN(64, kv.lease));
  }
  const bytes = new Uint8Array(head.length + kv.value.length + tail.length);
  bytes.set(head);
  bytes.set(kv.value, head.length);
  bytes.set(tail, head.length + kv.value.length);
  return bytes;
}

function pushBytesField(target: number[], field: number, bytes: Bytes): void {
  if (bytes.length === 0) return;
  target.push((field << 3) | 2);
  pushVarint(target, bytes.length);
  for (const byte of bytes) target.push(byte);
}

function pushNumberField(target: number[], field: number, value: number): void {
  if (value === 0) return;
  target.push(field << 3);
  pushVarint(target, value);
}

function pushVarint(target: number[], value: number): void {
  let rest = value;
  while (rest >= 128) {
    target.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  target.push(rest);
}

function pushBigVarint(target: number[], value: bigint): void {
  let rest = value;
  while (rest >= 128n) {
    target.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  target.push(Number(rest));
}
