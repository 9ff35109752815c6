/**
 * The benchmark's requests and replies as bytes: requests are templates whose key is overwritten, replies are read in
 * place. Field numbers stand in shared/api/proto.
 */

export const KEY_BYTES = 16;
export const VALUE_BYTES = 256;

/** `field` of wire type 2 (length-delimited) as its tag. */
const bytesTag = (field: number) => (field << 3) | 2;

/** A message with gRPC's prefix: not compressed, its length. */
export function framed(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return frame;
}

/** Where the key begins in the framed templates below. */
export const KEY_OFFSET = 7;

/** PutRequest{key: 16 bytes, value: 256 bytes}. */
export function putTemplate(value: Uint8Array): Buffer {
  if (value.length !== VALUE_BYTES) throw new Error("the value's length is part of the template");
  const head = [bytesTag(1), KEY_BYTES, ...new Uint8Array(KEY_BYTES)];
  return framed(Uint8Array.of(...head, bytesTag(2), 0x80, 0x02, ...value));
}

/** RangeRequest{key: 16 bytes, serializable}. */
export function rangeTemplate(serializable: boolean): Buffer {
  const head = [bytesTag(1), KEY_BYTES, ...new Uint8Array(KEY_BYTES)];
  return framed(Uint8Array.of(...head, ...(serializable ? [7 << 3, 1] : [])));
}

/** PutRequest{key: 32 bytes, value: 256 bytes}: the first half of the key is for `writeKey`. */
export function longKeyPutTemplate(value: Uint8Array): Buffer {
  const key = new Uint8Array(2 * KEY_BYTES).fill(0x30);
  return framed(Uint8Array.of(bytesTag(1), key.length, ...key, bytesTag(2), 0x80, 0x02, ...value));
}

/** RangeRequest{key: 32 bytes}. */
export function longKeyRangeTemplate(): Buffer {
  const key = new Uint8Array(2 * KEY_BYTES).fill(0x30);
  return framed(Uint8Array.of(bytesTag(1), key.length, ...key));
}

/** A message as a field. */
function nested(field: number, message: Uint8Array): Uint8Array {
  return Uint8Array.of(bytesTag(field), ...varint(BigInt(message.length)), ...message);
}

function varint(value: bigint): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return [...bytes, Number(rest)];
}

/** A varint of fixed length, so that it can be overwritten: up to 2^35. */
const FIXED_VARINT_BYTES = 5;
/** Behind gRPC's prefix, the compare's head, its target and its key. */
const MOD_REVISION_OFFSET = 5 + 2 + 2 + 2 + KEY_BYTES + 1;

/** TxnRequest: if the key's mod revision is the one to be written in, put it, else read it. */
export function txnTemplate(value: Uint8Array, key: { seed: number; number: number }): Buffer {
  const name = Buffer.alloc(KEY_BYTES);
  writeKey(name, 0, key.seed, key.number);
  // Compare{result: EQUAL, target: MOD, key, mod_revision}
  const zero = new Uint8Array(FIXED_VARINT_BYTES).fill(0x80, 0, FIXED_VARINT_BYTES - 1);
  const compare = Uint8Array.of(2 << 3, 2, ...nested(3, name), 6 << 3, ...zero);
  const put = Uint8Array.of(...nested(1, name), ...nested(2, value));
  const range = nested(1, name);
  return framed(
    Uint8Array.of(
      ...nested(1, compare),
      ...nested(2, nested(2, put)),
      ...nested(3, nested(1, range)),
    ),
  );
}

export function writeModRevision(message: Buffer, revision: number): void {
  if (revision >= 2 ** 35) throw new Error(`revision ${revision} doesn't fit`);
  for (let place = 0; place < FIXED_VARINT_BYTES; place += 1) {
    const more = place < FIXED_VARINT_BYTES - 1 ? 0x80 : 0;
    message[MOD_REVISION_OFFSET + place] = (Math.floor(revision / 128 ** place) & 0x7f) | more;
  }
}

/** LeaseKeepAliveRequest{ID}. */
export function keepAliveRequest(id: bigint): Buffer {
  return framed(Uint8Array.of(1 << 3, ...varint(id)));
}

/** WatchRequest{create_request{key}}. */
export function watchRequest(key: Uint8Array): Buffer {
  return framed(nested(1, nested(1, key)));
}

/**
 * Writes the `number`-th key of a run: 16 hexadecimal digits, distinct for distinct numbers below 2^32, spread over the
 * key space as hashed ids are.
 */
export function writeKey(target: Buffer, offset: number, seed: number, number: number): void {
  const spread = Math.imul(number, 0x9e37_79b1) >>> 0;
  writeHex(target, offset, spread);
  writeHex(target, offset + 8, seed >>> 0);
}

function writeHex(target: Buffer, offset: number, word: number): void {
  for (let digit = 0; digit < 8; digit += 1) {
    const value = (word >>> (28 - 4 * digit)) & 15;
    target[offset + digit] = value < 10 ? 48 + value : 87 + value;
  }
}

/** Reads varints and lengths of a message in place. */
class Cursor {
  source: Buffer = Buffer.alloc(0);
  at = 0;
  end = 0;

  reset(source: Buffer, start: number, end: number): void {
    this.source = source;
    this.at = start;
    this.end = end;
  }

  /** Exact up to 2^53; ids above it are read past only. */
  varint(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.source[this.at] as number;
      this.at += 1;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
  }

  skip(tag: number): void {
    if ((tag & 7) === 0) this.varint();
    else if ((tag & 7) === 2) {
      const length = this.varint();
      this.at += length;
    } else throw new Error(`wire type ${tag & 7} in a reply`);
  }
}

const outer = new Cursor();
const inner = new Cursor();

/** The revision in a ResponseHeader that lies at `source[start, end)`. */
function headerRevision(source: Buffer, start: number, end: number): number {
  inner.reset(source, start, end);
  let revision = 0;
  while (inner.at < end) {
    const tag = inner.varint();
    if (tag === 3 << 3) revision = inner.varint();
    else inner.skip(tag);
  }
  return revision;
}

/** The header's revision of any response; 0 when there is none. */
export function revisionOfReply(source: Buffer, start: number, end: number): number {
  outer.reset(source, start, end);
  while (outer.at < end) {
    const tag = outer.varint();
    if (tag !== bytesTag(1)) {
      outer.skip(tag);
      continue;
    }
    const length = outer.varint();
    return headerRevision(source, outer.at, outer.at + length);
  }
  return 0;
}

/** True when a RangeResponse holds exactly one kv, with the key at `request[KEY_OFFSET]` and a whole value. */
export function isWholeRangeReply(
  source: Buffer,
  start: number,
  end: number,
  request: Buffer,
): boolean {
  outer.reset(source, start, end);
  let [kvs, count, revision] = [0, 0, 0];
  while (outer.at < end) {
    const tag = outer.varint();
    if (tag === bytesTag(1)) {
      const length = outer.varint();
      revision = headerRevision(source, outer.at, outer.at + length);
      outer.at += length;
    } else if (tag === bytesTag(2)) {
      const length = outer.varint();
      if (!isWholeKv(source, outer.at, outer.at + length, request)) return false;
      kvs += 1;
      outer.at += length;
    } else if (tag === 4 << 3) {
      count = outer.varint();
    } else {
      outer.skip(tag);
    }
  }
  return kvs === 1 && count === 1 && revision > 0;
}

function isWholeKv(source: Buffer, start: number, end: number, request: Buffer): boolean {
  inner.reset(source, start, end);
  let [keyMatches, valueBytes] = [false, 0];
  while (inner.at < end) {
    const tag = inner.varint();
    if (tag !== bytesTag(1) && tag !== bytesTag(5)) {
      inner.skip(tag);
      continue;
    }
    const length = inner.varint();
    const from = inner.at;
    if (tag === bytesTag(5)) valueBytes = length;
    else {
      const keyEnd = KEY_OFFSET + KEY_BYTES;
      keyMatches = source.compare(request, KEY_OFFSET, keyEnd, from, from + length) === 0;
    }
    inner.at = from + length;
  }
  return keyMatches && valueBytes === VALUE_BYTES;
}

/** The header's revision of a TxnResponse that succeeded; 0 of one that didn't. */
export function succeededRevision(source: Buffer, start: number, end: number): number {
  outer.reset(source, start, end);
  while (outer.at < end) {
    const tag = outer.varint();
    if (tag === 2 << 3) return outer.varint() === 1 ? revisionOfReply(source, start, end) : 0;
    outer.skip(tag);
  }
  return 0;
}

/** TTL of a LeaseKeepAliveResponse. */
export function remainingTtl(source: Buffer, start: number, end: number): number {
  outer.reset(source, start, end);
  while (outer.at < end) {
    const tag = outer.varint();
    if (tag === 3 << 3) return outer.varint();
    outer.skip(tag);
  }
  return 0;
}

/** The mod revisions of a WatchResponse's events, in order. */
export function eventRevisions(source: Buffer, start: number, end: number): number[] {
  const revisions: number[] = [];
  outer.reset(source, start, end);
  while (outer.at < end) {
    const tag = outer.varint();
    if (tag !== bytesTag(11)) {
      outer.skip(tag);
      continue;
    }
    const length = outer.varint();
    revisions.push(eventRevision(source, outer.at, outer.at + length));
    outer.at += length;
  }
  return revisions;
}

/** Event{type, kv{.., mod_revision}}. */
function eventRevision(source: Buffer, start: number, end: number): number {
  inner.reset(source, start, end);
  let kvEnd = 0;
  while (inner.at < end) {
    const tag = inner.varint();
    if (kvEnd === 0 && tag === bytesTag(2)) kvEnd = inner.varint();
    else if (kvEnd > 0 && tag === 3 << 3) return inner.varint();
    else inner.skip(tag);
  }
  return 0;
}
