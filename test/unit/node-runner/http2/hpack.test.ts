/**
 * HPACK: the vectors of RFC 7541 appendix C, the Huffman code's bounds, and what a decoder must
 * refuse.
 */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HeaderDecoder } from "../../../../node-runner/http2/hpack-decoder.ts";
import {
  HeaderEncoder,
  prepareHeaders,
  writeInteger,
} from "../../../../node-runner/http2/hpack-encoder.ts";
import {
  huffmanDecode,
  huffmanDecodedBytesMax,
  huffmanEncode,
  huffmanEncodedBytes,
} from "../../../../node-runner/http2/huffman.ts";
import { LIMITS } from "../../../../shared/base/limits.ts";

type Pair = readonly [string, string];

function decodeBlock(decoder: HeaderDecoder, bytes: Buffer): Pair[] | undefined {
  const pairs: Pair[] = [];
  const sink = {
    add: ({ name, value }: { name: string; value: string }) => pairs.push([name, value]),
  };
  return decoder.decode(bytes, 0, bytes.length, sink) ? pairs : undefined;
}

function decodeHex(decoder: HeaderDecoder, hex: string): Pair[] | undefined {
  return decodeBlock(decoder, Buffer.from(hex.replaceAll(" ", ""), "hex"));
}

const FIRST: Pair[] = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "www.example.com"],
];
const SECOND: Pair[] = [...FIRST, ["cache-control", "no-cache"]];
const THIRD: Pair[] = [
  [":method", "GET"],
  [":scheme", "https"],
  [":path", "/index.html"],
  [":authority", "www.example.com"],
  ["custom-key", "custom-value"],
];
const RESPONSE_1: Pair[] = [
  [":status", "302"],
  ["cache-control", "private"],
  ["date", "Mon, 21 Oct 2013 20:13:21 GMT"],
  ["location", "https://www.example.com"],
];
const RESPONSE_2: Pair[] = [[":status", "307"], ...RESPONSE_1.slice(1)];
const RESPONSE_3: Pair[] = [
  [":status", "200"],
  ["cache-control", "private"],
  ["date", "Mon, 21 Oct 2013 20:13:22 GMT"],
  ["location", "https://www.example.com"],
  ["content-encoding", "gzip"],
  ["set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"],
];

describe("RFC 7541 appendix C", () => {
  test("C.1 integers", () => {
    const target = Buffer.alloc(8);
    expect(writeInteger(target, 0, { value: 10, prefixBits: 5, pattern: 0 })).toBe(1);
    expect(target.subarray(0, 1).toString("hex")).toBe("0a");
    expect(writeInteger(target, 0, { value: 1337, prefixBits: 5, pattern: 0 })).toBe(3);
    expect(target.subarray(0, 3).toString("hex")).toBe("1f9a0a");
    expect(writeInteger(target, 0, { value: 42, prefixBits: 8, pattern: 0 })).toBe(1);
    expect(target.subarray(0, 1).toString("hex")).toBe("2a");
  });

  test("C.2 single fields: with, without and never indexed, and indexed", () => {
    const decoder = new HeaderDecoder();
    expect(
      decodeHex(decoder, "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"),
    ).toEqual([["custom-key", "custom-header"]]);
    expect(decoder.table.bytes).toBe(55);
    expect(decodeHex(decoder, "040c 2f73 616d 706c 652f 7061 7468")).toEqual([
      [":path", "/sample/path"],
    ]);
    expect(decodeHex(decoder, "1008 7061 7373 776f 7264 0673 6563 7265 74")).toEqual([
      ["password", "secret"],
    ]);
    expect(decodeHex(decoder, "82")).toEqual([[":method", "GET"]]);
    expect(decoder.table.bytes).toBe(55);
  });

  test.each([
    [
      "C.3 requests without Huffman coding",
      "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
      "8286 84be 5808 6e6f 2d63 6163 6865",
      "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ],
    [
      "C.4 requests with Huffman coding",
      "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
      "8286 84be 5886 a8eb 1064 9cbf",
      "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ],
  ])("%s", (_name, first, second, third) => {
    const decoder = new HeaderDecoder();
    expect(decodeHex(decoder, first)).toEqual(FIRST);
    expect(decoder.table.bytes).toBe(57);
    expect(decodeHex(decoder, second)).toEqual(SECOND);
    expect(decoder.table.bytes).toBe(110);
    expect(decodeHex(decoder, third)).toEqual(THIRD);
    expect(decoder.table.bytes).toBe(164);
    expect(decoder.table.count).toBe(3);
  });

  test.each([
    [
      "C.5 responses without Huffman coding, with evictions (table of 256)",
      "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
      "4803 3330 37c1 c0bf",
      "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ],
    [
      "C.6 responses with Huffman coding, with evictions (table of 256)",
      "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
      "4883 640e ffc1 c0bf",
      "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ],
  ])("%s", (_name, first, second, third) => {
    const decoder = new HeaderDecoder(256);
    expect(decodeHex(decoder, first)).toEqual(RESPONSE_1);
    expect(decoder.table.bytes).toBe(222);
    expect(decodeHex(decoder, second)).toEqual(RESPONSE_2);
    expect(decoder.table.bytes).toBe(222);
    expect(decodeHex(decoder, third)).toEqual(RESPONSE_3);
    expect(decoder.table.bytes).toBe(215);
    expect(decoder.table.count).toBe(3);
  });
});

describe("Huffman code", () => {
  test("any octets survive encoding and decoding", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (octets) => {
        const text = Buffer.from(octets).toString("latin1");
        const encoded = new Uint8Array(huffmanEncodedBytes(text));
        expect(huffmanEncode(text, encoded, 0)).toBe(encoded.length);
        const decoded = Buffer.alloc(huffmanDecodedBytesMax(encoded.length));
        const length = huffmanDecode(encoded, 0, encoded.length, decoded);
        expect(decoded.subarray(0, length).equals(Buffer.from(octets))).toBe(true);
      }),
    );
  });

  test.each([
    ["5.2 padding of more than seven bits", "ff"],
    ["5.2 padding of more than seven bits behind a symbol", "1fff"],
    ["5.2 padding that is not all ones", "00"],
    ["5.2 EOS within the string", "ffff fffc"],
    ["5.2 EOS and padding", "ffff ffff"],
  ])("%s is refused", (_name, hex) => {
    const bytes = Buffer.from(hex.replaceAll(" ", ""), "hex");
    expect(huffmanDecode(bytes, 0, bytes.length, Buffer.alloc(16))).toBe(-1);
  });

  test("an empty string has no octets", () => {
    expect(huffmanDecode(Buffer.alloc(0), 0, 0, Buffer.alloc(0))).toBe(0);
  });
});

describe("a malformed block is refused", () => {
  test.each([
    ["6.1 index 0", "80"],
    ["2.3.3 an index behind both tables", "be"],
    ["2.3.3 a name's index behind both tables", "7f00 0161"],
    ["5.1 an integer that is cut off", "ff80"],
    ["5.1 an integer that overflows", "ffff ffff ffff 7f"],
    ["5.2 a string longer than the block", "0003 6162"],
    ["5.2 a string without its length", "0001 61"],
    ["5.2 a Huffman string with bad padding", "0081 0001 61"],
    ["6.3 a table size above SETTINGS_HEADER_TABLE_SIZE", "3fe2 1f"],
    ["4.2 a table size behind a field", "8220"],
  ])("%s", (_name, hex) => {
    expect(decodeHex(new HeaderDecoder(), hex)).toBeUndefined();
  });

  test("every prefix of a valid block decodes or is refused, and never throws", () => {
    const whole = Buffer.from(
      "828684418cf1e3c2e5f23a6ba0ab90f4ff408825a849e95ba97d7f8925a849e95bb8e8b4bf",
      "hex",
    );
    let refused = 0;
    for (let end = 0; end <= whole.length; end += 1) {
      if (decodeBlock(new HeaderDecoder(), whole.subarray(0, end)) === undefined) refused += 1;
    }
    expect(refused).toBeGreaterThan(10);
    expect(decodeBlock(new HeaderDecoder(), whole)).toHaveLength(5);
  });

  test("random blocks leave the dynamic table within its bound", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }), (blocks) => {
        const decoder = new HeaderDecoder();
        for (const bytes of blocks) {
          if (decodeBlock(decoder, Buffer.from(bytes)) === undefined) return;
          expect(decoder.table.bytes).toBeLessThanOrEqual(LIMITS.http2HeaderTableBytes);
        }
      }),
    );
  });
});

describe("dynamic table", () => {
  test("4.3 a smaller size evicts, 4.2 two updates in one block pass through zero", () => {
    const decoder = new HeaderDecoder();
    decodeHex(decoder, "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572");
    expect(decodeHex(decoder, "20 3fe1 1f 82")).toEqual([[":method", "GET"]]);
    expect(decoder.table.count).toBe(0);
  });

  test("4.4 an entry above the bound empties the table and is no error", () => {
    const decoder = new HeaderDecoder(100);
    decodeHex(decoder, "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572");
    expect(decoder.table.count).toBe(1);
    const large = Buffer.concat([Buffer.of(0x40, 1, 0x61, 80), Buffer.alloc(80, 0x62)]);
    expect(decodeBlock(decoder, large)).toEqual([["a", "b".repeat(80)]]);
    expect(decoder.table.count).toBe(0);
    expect(decoder.table.bytes).toBe(0);
  });
});

describe("encoder", () => {
  const reply = prepareHeaders(
    [
      [":status", "200"],
      ["x-test-indexed", "always the same"],
    ],
    { indexed: true },
  );
  const other = prepareHeaders([["x-other-indexed", "too"]], { indexed: true });
  const trailers = prepareHeaders([
    ["grpc-status", "9"],
    ["grpc-message", "it failed"],
  ]);

  function encode(encoder: HeaderEncoder, headers: typeof reply): Buffer {
    const target = Buffer.alloc(encoder.bytesMax(headers));
    return target.subarray(0, encoder.encode(headers, target, 0));
  }

  test("indexed fields shrink to one octet and decode alike, in any order", () => {
    const encoder = new HeaderEncoder();
    const decoder = new HeaderDecoder();
    const sizes: number[] = [];
    for (const headers of [reply, trailers, other, reply, other, trailers, reply]) {
      const bytes = encode(encoder, headers);
      sizes.push(bytes.length);
      expect(decodeBlock(decoder, bytes)).toEqual(headers.map(({ name, value }) => [name, value]));
    }
    expect(sizes[3]).toBe(2);
    expect(sizes[4]).toBe(1);
    expect(sizes[6]).toBe(2);
  });

  test("4.2 after the client shrank its table the next block says so, and the table stays unused", () => {
    const encoder = new HeaderEncoder();
    encode(encoder, reply);
    encoder.setTableBytes(100);
    const decoder = new HeaderDecoder();
    const bytes = encode(encoder, reply);
    expect(bytes[0]).toBe(0x20);
    expect(decodeBlock(decoder, bytes)).toEqual([
      [":status", "200"],
      ["x-test-indexed", "always the same"],
    ]);
    expect(encode(encoder, reply)[0]).toBe(0x88);
    expect(decoder.table.count).toBe(0);
  });
});
