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
        throw new ValueError(`${typeof value} has no JSON form`);
      }
      return utf8(encoded);
    },
    decode: (encoded) => {
      try {
        return JSON.parse(textOf(encoded)) as Value;
      } catch (cause) {
        throw new ValueError("the value is no JSON", { cause });
      }
    },
  };
}

/** A value is not what its codec or schema says. `issues` name what is wrong, where a schema does. */
export class ValueError extends RpcError {
  readonly issues: readonly SchemaIssue[];

  constructor(message: string, options: { issues?: readonly SchemaIssue[]; cause?: unknown } = {}) {
    super("invalidArgument", message, { cause: options.cause });
    this.issues = options.issues ?? [];
  }
}

export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/**
 * The part of Standard Schema v1 (standardschema.dev) that is used here: what zod, valibot,
 * arktype and others offer.
 */
export interface StandardSchema<Output> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    validate(
      value: unknown,
    ): SchemaResult<Output> | { then(resolve: (result: SchemaResult<Output>) => void): unknown };
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined;
  };
}

type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

/**
 * Values that a schema vouches for, each time they are written and read. `inner` makes bytes of
 * them: JSON by default. What is put must itself pass the schema, so one that changes the kind of
 * a value on its way in (a text to a date) fits only reading.
 */
export function schema<Value>(
  standard: StandardSchema<Value>,
  inner: Codec<unknown> = json<unknown>(),
): Codec<Value> {
  const check = (value: unknown): Value => {
    const result = standard["~standard"].validate(value);
    if ("then" in result) throw new ValueError("a schema for values must answer at once");
    if (result.issues === undefined) return result.value;
    const { issues } = result;
    throw new ValueError(issues.map(issueText).join("; "), { issues });
  };
  return {
    encode: (value) => inner.encode(check(value)),
    decode: (encoded) => check(inner.decode(encoded)),
  };
}

function issueText({ message, path }: SchemaIssue): string {
  const keys = (path ?? []).map((part) => String(typeof part === "object" ? part.key : part));
  return keys.length === 0 ? message : `${keys.join(".")}: ${message}`;
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
