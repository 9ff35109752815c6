/** Values as apps hold them: how they become bytes and back. `text` is the client's default. */
import { RpcError } from "../api/errors.ts";
import { textOf, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { LinkKeyValue } from "../wire/link.ts";
import { keyText } from "./keys.ts";
import type { KeySpace } from "./keys.ts";

export interface Codec<Value> {
  encode(value: Value): Bytes;
  /** Throws when the bytes are not such a value. */
  decode(bytes: Bytes): Value;
}

export const text: Codec<string> = { encode: utf8, decode: textOf };

export const bytes: Codec<Bytes> = { encode: (value) => value, decode: (value) => value };

/** JSON text. The type is the app's word: nothing checks it. */
export function json<Value>(): Codec<Value> {
  return {
    encode: (value) => {
      const encoded = JSON.stringify(value) as string | undefined;
      if (encoded === undefined) {
        throw new RpcError("invalidArgument", `${typeof value} has no JSON form`);
      }
      return utf8(encoded);
    },
    decode: (encoded) => JSON.parse(textOf(encoded)) as Value,
  };
}

/** A key with its value at a revision. The value is decoded when it is first asked for. */
export class Entry<Value> {
  readonly keyBytes: Bytes;
  /** The value as it is stored. */
  readonly bytes: Bytes;
  /** The revisions that created and last changed the key. */
  readonly createRevision: number;
  readonly modRevision: number;
  /** Puts since creation, from 1 on. */
  readonly version: number;
  /** 0n: none. */
  readonly lease: bigint;
  readonly #codec: Codec<Value>;
  #value: { readonly decoded: Value } | undefined;

  constructor(kv: LinkKeyValue, space: KeySpace, codec: Codec<Value>) {
    this.keyBytes = space.decode(kv.key);
    this.bytes = kv.value;
    this.createRevision = kv.createRevision;
    this.modRevision = kv.modRevision;
    this.version = kv.version;
    this.lease = kv.lease;
    this.#codec = codec;
  }

  get key(): string {
    return keyText(this.keyBytes);
  }

  get value(): Value {
    this.#value ??= { decoded: this.#codec.decode(this.bytes) };
    return this.#value.decoded;
  }
}
