/**
 * A request's parameters, checked: every refusal is a 400 that names the parameter and what it
 * takes.
 */
import { LIMITS } from "../shared/base/limits.ts";
import { EMPTY } from "../shared/base/bytes.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import type { Selector } from "../shared/client/keys.ts";
import { ENCODINGS, decodeText, percentDecode, strictText } from "./encoding.ts";
import type { Encoding } from "./encoding.ts";
import { HttpError } from "./problem.ts";

export class Params {
  readonly #values = new Map<string, Bytes>();
  readonly encoding: Encoding;

  /**
   * `known`: the names that this route takes; others are refused, so that a slip doesn't go unseen.
   */
  constructor(url: string, known: readonly string[]) {
    const start = url.indexOf("?");
    const query = start < 0 ? "" : url.slice(start + 1).replace(/#.*$/, "");
    for (const part of query.split("&")) {
      if (part === "") continue;
      const equals = part.indexOf("=");
      const rawName = equals < 0 ? part : part.slice(0, equals);
      const name = strictText(percentDecode(rawName, "a parameter's name")) ?? "";
      if (!known.includes(name) && name !== "encoding" && name !== "timeout") {
        throw new HttpError(400, `parameter ${name} is not known here: ${known.join(", ")}`);
      }
      if (this.#values.has(name)) throw new HttpError(400, `parameter ${name} is given twice`);
      const rawValue = equals < 0 ? "" : part.slice(equals + 1).replaceAll("+", " ");
      this.#values.set(name, percentDecode(rawValue, name));
    }
    this.encoding = this.oneOf("encoding", ENCODINGS) ?? "utf8";
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  text(name: string): string | undefined {
    const bytes = this.#values.get(name);
    if (bytes === undefined) return undefined;
    const text = strictText(bytes);
    if (text === undefined) throw new HttpError(400, `${name} is no UTF-8`);
    return text;
  }

  /** A key or a part of one: its bytes as they are, or in the request's encoding. */
  bytes(name: string): Bytes | undefined {
    const bytes = this.#values.get(name);
    if (bytes === undefined || this.encoding === "utf8") return bytes;
    return decodeText(this.text(name) ?? "", this.encoding, name);
  }

  flag(name: string): boolean {
    return this.oneOf(name, ["true", "false", ""]) !== undefined && this.text(name) !== "false";
  }

  count(name: string, max = Number.MAX_SAFE_INTEGER): number | undefined {
    const text = this.text(name);
    return text === undefined ? undefined : parseCount(text, name, max);
  }

  oneOf<Name extends string>(name: string, names: readonly Name[]): Name | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const found = names.find((each) => each === text);
    if (found === undefined) throw new HttpError(400, `${name} is one of: ${names.join(", ")}`);
    return found;
  }

  /** Milliseconds that the caller will wait, if it says. */
  get timeoutMilliseconds(): number | undefined {
    const timeout = this.count("timeout", LIMITS.edgeTimeoutMillisecondsMax);
    if (timeout === 0) throw new HttpError(400, "timeout is in milliseconds, 1 or more");
    return timeout;
  }

  /** The single key of the path (`/kv/<key>`) or of `key=`, if one is named. */
  key(pathKey: string | undefined): Bytes | undefined {
    const key =
      pathKey === undefined ? this.bytes("key") : percentDecode(pathKey, "the path's key");
    if (pathKey !== undefined && this.has("key")) {
      throw new HttpError(400, "the key stands in the path or in key=, not in both");
    }
    if (key !== undefined && key.length === 0) throw new HttpError(400, "the key is empty");
    return key;
  }

  /** The range that prefix=, from= and to=, or all= name. */
  range(): Exclude<Selector, string | Bytes> | undefined {
    const prefix = this.bytes("prefix");
    const from = this.bytes("from");
    const to = this.bytes("to");
    const named = [prefix, from, this.has("all") ? EMPTY : undefined].filter(
      (each) => each !== undefined,
    );
    if (named.length > 1) throw new HttpError(400, "name one of prefix, from (with to) and all");
    if (prefix !== undefined) return { prefix };
    if (from !== undefined) return { from, to };
    if (to !== undefined) throw new HttpError(400, "to needs from");
    return this.flag("all") ? { all: true } : undefined;
  }
}

export function parseCount(text: string, name: string, max = Number.MAX_SAFE_INTEGER): number {
  const value = Number(text);
  if (!/^\d{1,16}$/.test(text) || value > max) {
    throw new HttpError(400, `${name} is a whole number from 0 to ${max}`);
  }
  return value;
}

/** A lease's id in decimal, as etcd's JSON has it. */
export function parseLease(text: string): bigint {
  if (!/^-?\d{1,19}$/.test(text) || BigInt.asIntN(64, BigInt(text)) !== BigInt(text)) {
    throw new HttpError(400, "a lease id is a 64-bit number in decimal");
  }
  return BigInt(text);
}

/**
 * Of a body that is too large so much more is taken, and dropped: a caller that is still sending
 * when it is refused may see a broken connection instead of the refusal.
 */
const OVERRUN_BYTES_MAX = 4 * 1024 * 1024;

/** The body's bytes; 413 when it is larger than `max`, however it comes. */
export async function readBody(request: Request, max: number): Promise<Bytes> {
  if (request.body === null) return EMPTY;
  const parts: Bytes[] = [];
  let length = 0;
  const reader = (request.body as ReadableStream<Uint8Array>).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length <= max) parts.push(value);
    else if (length > max + OVERRUN_BYTES_MAX) break;
  }
  if (length > max) {
    await reader.cancel();
    throw new HttpError(413, `the body is larger than ${max} bytes`);
  }
  const body = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    body.set(part, offset);
    offset += part.length;
  }
  return body;
}

export async function readJson(request: Request): Promise<unknown> {
  const body = await readBody(request, LIMITS.edgeJsonBytesMax);
  const text = strictText(body);
  if (text === undefined) throw new HttpError(400, "the body is no UTF-8");
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new HttpError(400, "the body is no JSON");
  }
}
