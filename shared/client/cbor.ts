/**
 * CBOR values (RFC 8949), for apps: smaller and faster than JSON, with bytes, dates, maps and
 * bigints. A module of its own (`quorate/client/cbor`), because its codec is larger than the rest
 * of the client.
 */
import { Encoder } from "cbor-x/index-no-eval";
import type { Codec } from "./values.ts";

/** The type is the app's word: nothing checks it. `schema(validator, cbor())` does. */
export function cbor<Value>(): Codec<Value> {
  const codec = new Encoder({ useRecords: false, tagUint8Array: false });
  return {
    encode: (value) => Uint8Array.from(codec.encode(value) as Uint8Array),
    decode: (encoded) => codec.decode(encoded) as Value,
  };
}
