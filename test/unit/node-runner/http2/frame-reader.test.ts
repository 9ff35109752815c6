/** Cutting input into frames, and bodies into messages: the cuts of the network must not show. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MessageReader } from "../../../../node-runner/grpc/message-reader.ts";
import { FrameReader } from "../../../../node-runner/http2/frame-reader.ts";
import { PREFACE } from "../../../../node-runner/http2/protocol.ts";
import { LIMITS } from "../../../../shared/base/limits.ts";
import { frame, grpcMessage } from "./raw-client.ts";

/** `whole` in pieces of the given sizes, the rest as one. */
function pieces(whole: Buffer, sizes: readonly number[]): Buffer[] {
  const parts: Buffer[] = [];
  let at = 0;
  for (const size of sizes) {
    parts.push(whole.subarray(at, at + size));
    at += size;
  }
  return [...parts, whole.subarray(at)];
}

function readFrames(parts: readonly Buffer[]): { frames: string[]; failures: string[] } {
  const frames: string[] = [];
  const failures: string[] = [];
  const reader = new FrameReader({
    frame({ type, flags, id }, source, start, end) {
      frames.push(`${type} ${flags} ${id} ${source.toString("hex", start, end)}`);
      return true;
    },
    unreadable: (reason) => failures.push(reason),
  });
  for (const part of parts) reader.read(part);
  return { frames, failures };
}

const sizes = fc.array(fc.nat(40), { maxLength: 40 });

describe("frames", () => {
  const anyFrame = fc
    .tuple(fc.nat(255), fc.nat(255), fc.nat(0x7fff_ffff), fc.uint8Array({ maxLength: 100 }))
    .map(([type, flags, id, payload]) => frame(type, flags, id, payload));

  test("come out the same however the input is cut", () => {
    fc.assert(
      fc.property(fc.array(anyFrame, { maxLength: 8 }), sizes, (frames, sizes) => {
        const whole = Buffer.concat([PREFACE, ...frames]);
        const uncut = readFrames([whole]);
        expect(uncut.frames).toHaveLength(frames.length);
        expect(readFrames(pieces(whole, sizes))).toEqual(uncut);
      }),
    );
  });

  test("the largest is read, a larger one ends the reading, in one piece or in many", () => {
    const largest = frame(0, 0, 1, Buffer.alloc(LIMITS.http2FrameBytesMax));
    const larger = frame(0, 0, 1, Buffer.alloc(LIMITS.http2FrameBytesMax + 1));
    for (const cut of [[], [26], [24, 3], [24, 9], [24, 12]]) {
      expect(readFrames(pieces(Buffer.concat([PREFACE, largest]), cut)).frames).toHaveLength(1);
      const refused = readFrames(pieces(Buffer.concat([PREFACE, larger, largest]), cut));
      expect(refused).toEqual({ frames: [], failures: ["frame size"] });
    }
  });

  test("a wrong preface is noticed at its first wrong octet, once", () => {
    const wrong = Buffer.from("PRI * HTTP/1.1\r\n\r\n");
    for (const cut of [[], [3], [12, 1], [13, 1]]) {
      expect(readFrames(pieces(wrong, cut))).toEqual({ frames: [], failures: ["preface"] });
    }
  });
});

describe("messages", () => {
  function readMessages(parts: readonly Buffer[], heldMax = Infinity) {
    const messages: string[] = [];
    let held = 0;
    let refusals = 0;
    const reader = new MessageReader(
      {
        isPaused: false,
        message: (bytes, flag) => messages.push(`${flag} ${bytes.toString("hex")}`),
        tooLarge: (length) => messages.push(`too large ${length}`),
        hold(bytes) {
          held += bytes;
          if (held > heldMax) refusals += 1;
          return held <= heldMax;
        },
      },
      1000,
    );
    for (const part of parts) reader.read(part);
    return { messages, held, refusals, isAtBoundary: reader.isAtBoundary };
  }

  test("come out the same however the body is cut, and nothing stays held", () => {
    const message = fc.uint8Array({ maxLength: 120 }).map((bytes) => grpcMessage(bytes));
    fc.assert(
      fc.property(fc.array(message, { maxLength: 8 }), sizes, (all, sizes) => {
        const whole = Buffer.concat(all);
        const read = readMessages(pieces(whole, sizes));
        expect(read.messages).toEqual(all.map((bytes) => `0 ${bytes.toString("hex", 5)}`));
        expect(read).toMatchObject({ held: 0, isAtBoundary: true });
      }),
    );
  });

  test("one above the limit is refused at its prefix, and nothing behind it is read", () => {
    const body = Buffer.concat([
      grpcMessage("ok"),
      grpcMessage(Buffer.alloc(1001)),
      grpcMessage("no"),
    ]);
    for (const cut of [[], [9], [8, 2]]) {
      expect(readMessages(pieces(body, cut)).messages).toEqual(["0 6f6b", "too large 1001"]);
    }
  });

  test("one that may not be held ends the reading", () => {
    const read = readMessages(pieces(grpcMessage(Buffer.alloc(500)), [100]), 50);
    expect(read).toMatchObject({ messages: [], refusals: 1 });
  });
});
