/** worker/encoding and worker/params: bytes in URLs and JSON, and what is refused. */
import { describe, expect, test } from "vitest";
import { Prng } from "../../../shared/base/prng.ts";
import { equalBytes, utf8 } from "../../../shared/base/bytes.ts";
import {
  decodeBase64,
  decodeText,
  encodeBase64,
  jsonBytes,
  percentDecode,
} from "../../../worker/encoding.ts";
import { Params, parseLease, readBody, readJson } from "../../../worker/params.ts";
import { HttpError } from "../../../worker/problem.ts";

const known = ["key", "prefix", "from", "to", "all", "limit", "flag"];
const params = (query: string): Params => new Params(`http://edge/kv?${query}`, known);

describe("bytes in text", () => {
  test("every byte survives percent-encoding, base64 and hex (seeded)", () => {
    const prng = new Prng(7);
    for (let round = 0; round < 300; round += 1) {
      const bytes = Uint8Array.from({ length: prng.below(40) }, () => prng.below(256));
      const hex = Buffer.from(bytes).toString("hex");
      expect(percentDecode(hex.replace(/../g, "%$&"), "x")).toEqual(bytes);
      expect(decodeBase64(encodeBase64(bytes), "x")).toEqual(bytes);
      expect(decodeBase64(Buffer.from(bytes).toString("base64url"), "x")).toEqual(bytes);
      expect(decodeText(hex, "hex", "x")).toEqual(bytes);
    }
  });

  test("text beside escapes stays UTF-8", () => {
    expect(percentDecode("ä%2Fb%FF", "x")).toEqual(Uint8Array.from([...utf8("ä/b"), 0xff]));
  });

  test("bytes that are no UTF-8 appear under a name of their own", () => {
    expect(jsonBytes("key", utf8("ä"), "utf8")).toEqual({ key: "ä" });
    expect(jsonBytes("key", Uint8Array.of(0xff), "utf8")).toEqual({ keyBase64: "/w==" });
    expect(jsonBytes("key", Uint8Array.of(0xff), "hex")).toEqual({ key: "ff" });
    expect(jsonBytes("key", Uint8Array.of(0xff), "base64")).toEqual({ key: "/w==" });
  });

  test("a large value as base64", () => {
    const bytes = new Uint8Array(1_500_000).fill(7);
    expect(equalBytes(decodeBase64(encodeBase64(bytes), "x"), bytes)).toBe(true);
  });
});

describe("parameters", () => {
  test.each([
    ["key=%", "% needs two hex digits"],
    ["key=%4", "% needs two hex digits"],
    ["key=%zz", "% needs two hex digits"],
    ["nonsense=1", "parameter nonsense is not known here"],
    ["key=a&key=b", "given twice"],
    ["encoding=rot13", "encoding is one of: utf8, base64, hex"],
  ])("%s is refused", (query, text) => {
    expect(() => params(query)).toThrow(HttpError);
    expect(() => params(query)).toThrow(text);
  });

  test.each([
    ["key=***&encoding=base64", "key is no base64"],
    ["key=abc&encoding=hex", "key is no hex"],
    ["key=", "the key is empty"],
  ])("the key of %s is refused", (query, text) => {
    expect(() => params(query).key(undefined)).toThrow(text);
  });

  test.each([
    ["prefix=a&from=b", "one of prefix, from"],
    ["to=b", "to needs from"],
  ])("the range of %s is refused", (query, text) => {
    expect(() => params(query).range()).toThrow(text);
  });

  test("keys come from the path or the query, byte by byte", () => {
    expect(params("key=a%00b+c").key(undefined)).toEqual(utf8("a\0b c"));
    expect(params("").key("a%2F%FF")).toEqual(Uint8Array.of(0x61, 0x2f, 0xff));
    expect(() => params("key=a").key("b")).toThrow("not in both");
  });

  test("ranges", () => {
    expect(params("prefix=a%2F").range()).toEqual({ prefix: utf8("a/") });
    expect(params("from=a&to=b").range()).toEqual({ from: utf8("a"), to: utf8("b") });
    expect(params("all").range()).toEqual({ all: true });
    expect(params("all=false").range()).toBeUndefined();
    expect(params("prefix=").range()).toEqual({ prefix: utf8("") });
  });

  test.each(["-1", "1.5", "abc", "", "99999999999999999999"])("limit=%s is refused", (text) => {
    expect(() => params(`limit=${text}`).count("limit", 10_000)).toThrow("whole number");
  });

  test("lease ids are signed 64-bit numbers in decimal", () => {
    expect(parseLease("9223372036854775807")).toBe(2n ** 63n - 1n);
    expect(parseLease("-9223372036854775808")).toBe(-(2n ** 63n));
    for (const text of ["9223372036854775808", "0x10", "", "1e3", "--1"]) {
      expect(() => parseLease(text)).toThrow("64-bit number in decimal");
    }
  });
});

describe("bodies", () => {
  const request = (body: BodyInitOfTest, headers: Record<string, string> = {}): Request =>
    new Request("http://edge/kv", { method: "POST", body, headers, duplex: "half" });
  type BodyInitOfTest = string | Uint8Array | ReadableStream<Uint8Array>;

  test("are taken up to the limit and refused above it, declared or not", async () => {
    expect(await readBody(request("abc"), 3)).toEqual(utf8("abc"));
    await expect(readBody(request("abcd"), 3)).rejects.toMatchObject({ status: 413 });
    let pulled = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        pulled += 1;
        controller.enqueue(new Uint8Array(1024));
      },
    });
    await expect(readBody(request(endless), 4096)).rejects.toMatchObject({ status: 413 });
    // Some more is taken, so that a caller who is still sending sees the refusal; then it ends.
    expect(pulled * 1024).toBeLessThan(5 * 1024 * 1024);
  });

  test.each([
    ["text that is no JSON", "{", "no JSON"],
    ["bytes that are no UTF-8", Uint8Array.of(0xff), "no UTF-8"],
  ])("JSON: %s is refused", async (_name, body, text) => {
    await expect(readJson(request(body))).rejects.toThrow(text);
  });
});
