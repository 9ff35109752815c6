/**
 * Bytes in URLs and JSON. A query's percent-encoded bytes are taken as they are, so that every key
 * can be written; JSON is text, so bytes that are no UTF-8 appear as base64 under a name of their
 * own (`keyBase64`, `valueBase64`), and `encoding=base64` or `hex` makes all of them so.
 */
import { hexOf, utf8 } from "../shared/base/bytes.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import { HttpError } from "./problem.ts";

export const ENCODINGS = ["utf8", "base64", "hex"] as const;
export type Encoding = (typeof ENCODINGS)[number];

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text of UTF-8 bytes, or undefined when they are none. */
export function strictText(bytes: Bytes): string | undefined {
  try {
    return strict.decode(bytes);
  } catch {
    return undefined;
  }
}

/** The bytes of a percent-encoded text; `name` is for the error. */
export function percentDecode(text: string, name: string): Bytes {
  const raw = utf8(text);
  if (!raw.includes(0x25)) return raw;
  const decoded = new Uint8Array(raw.length);
  let length = 0;
  for (let position = 0; position < raw.length; position += 1) {
    if (raw[position] !== 0x25) {
      decoded[length++] = raw[position] as number;
      continue;
    }
    const digits = text.length === raw.length ? text.slice(position + 1, position + 3) : "";
    const pair =
      digits === "" ? String.fromCharCode(...raw.subarray(position + 1, position + 3)) : digits;
    if (!/^[0-9a-fA-F]{2}$/.test(pair)) {
      throw new HttpError(400, `${name} is not percent-encoded rightly: % needs two hex digits`);
    }
    decoded[length++] = Number.parseInt(pair, 16);
    position += 2;
  }
  return decoded.slice(0, length);
}

/** The bytes that `text` writes in this encoding. */
export function decodeText(text: string, encoding: Encoding, name: string): Bytes {
  switch (encoding) {
    case "utf8":
      return utf8(text);
    case "hex":
      if (!/^([0-9a-fA-F]{2})*$/.test(text)) throw new HttpError(400, `${name} is no hex`);
      return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
    case "base64":
      return decodeBase64(text, name);
  }
}

/** Standard and URL-safe alphabets, with or without padding. */
export function decodeBase64(text: string, name: string): Bytes {
  const standard = text.replaceAll("-", "+").replaceAll("_", "/").replace(/=+$/, "");
  if (!/^[A-Za-z0-9+/]*$/.test(standard) || standard.length % 4 === 1) {
    throw new HttpError(400, `${name} is no base64`);
  }
  const binary = atob(standard);
  const bytes = new Uint8Array(binary.length);
  for (let position = 0; position < binary.length; position += 1) {
    bytes[position] = binary.charCodeAt(position);
  }
  return bytes;
}

export function encodeBase64(bytes: Bytes): string {
  let binary = "";
  for (let start = 0; start < bytes.length; start += 0x2000) {
    binary += String.fromCharCode(...bytes.subarray(start, start + 0x2000));
  }
  return btoa(binary);
}

/** `bytes` as members of a JSON object, under `name`, or `<name>Base64` when they are no UTF-8. */
export function jsonBytes(name: string, bytes: Bytes, encoding: Encoding): Record<string, string> {
  if (encoding === "hex") return { [name]: hexOf(bytes) };
  if (encoding === "base64") return { [name]: encodeBase64(bytes) };
  const text = strictText(bytes);
  return text === undefined ? { [`${name}Base64`]: encodeBase64(bytes) } : { [name]: text };
}
