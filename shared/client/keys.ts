/**
 * Keys as apps write them: text (UTF-8) or bytes, alone or as a range. A namespace is a prefix
 * that is put before every key on the way out and taken off on the way in, so that a library can
 * be given a part of the store.
 */
import { RpcError } from "../api/errors.ts";
import { EMPTY, concatBytes, prefixEnd, textOf, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";

export type Key = string | Bytes;

/** One key, all that start with a prefix, a half-open range, or everything. */
export type Selector =
  | Key
  | { readonly prefix: Key }
  /** Without `to`: every key from `from` on. */
  | { readonly from: Key; readonly to?: Key | undefined }
  | { readonly all: true };

/** etcd's form of a range: `rangeEnd` empty is the single key, one zero byte is open-ended. */
export interface KeyRange {
  readonly key: Bytes;
  readonly rangeEnd: Bytes;
}

const OPEN_END = Uint8Array.of(0);

export function keyBytes(key: Key): Bytes {
  return typeof key === "string" ? utf8(key) : key;
}

export class KeySpace {
  readonly prefix: Bytes;

  constructor(prefix: Bytes = EMPTY) {
    this.prefix = prefix;
  }

  within(prefix: Key): KeySpace {
    return new KeySpace(concatBytes(this.prefix, keyBytes(prefix)));
  }

  encode(key: Key): Bytes {
    const bytes = keyBytes(key);
    if (bytes.length === 0) throw new RpcError("invalidArgument", "a key has at least one byte");
    return this.prefix.length === 0 ? bytes : concatBytes(this.prefix, bytes);
  }

  decode(key: Bytes): Bytes {
    return this.prefix.length === 0 ? key : key.subarray(this.prefix.length);
  }

  range(selector: Selector): KeyRange {
    if (typeof selector === "string" || selector instanceof Uint8Array) {
      return { key: this.encode(selector), rangeEnd: EMPTY };
    }
    if ("from" in selector) {
      const key = concatBytes(this.prefix, keyBytes(selector.from));
      const rangeEnd =
        selector.to === undefined
          ? endOf(this.prefix)
          : concatBytes(this.prefix, keyBytes(selector.to));
      return { key: key.length === 0 ? OPEN_END : key, rangeEnd };
    }
    const prefix =
      "prefix" in selector ? concatBytes(this.prefix, keyBytes(selector.prefix)) : this.prefix;
    return { key: prefix.length === 0 ? OPEN_END : prefix, rangeEnd: endOf(prefix) };
  }
}

function endOf(prefix: Bytes): Bytes {
  return prefixEnd(prefix) ?? OPEN_END;
}

/** The first key after `key`. */
export function keyAfter(key: Bytes): Bytes {
  return concatBytes(key, OPEN_END);
}

export function keyText(key: Bytes): string {
  return textOf(key);
}
