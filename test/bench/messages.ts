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
    else if ((tag & 7) === 2) this.at += this.varint();
    else throw new Error(`wire type ${tag & 7} in a reply`);
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
