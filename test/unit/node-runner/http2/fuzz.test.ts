/**
 * Random frames, valid and broken, at a real server: whatever comes, it neither throws nor stops
 * serving others, and it answers only what the protocol allows. fast-check prints the seed and the
 * shrunk frames of a failure.
 */
import * as fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FLAG, FRAME, readUint32 } from "../../../../node-runner/http2/protocol.ts";
import { startEchoServer, type EchoServer } from "../grpc/echo-server.ts";
import { CALL, GET, RawClient, block, call, frame, grpcMessage, settings } from "./raw-client.ts";

let server: EchoServer;
beforeAll(async () => {
  server = await startEchoServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const MILLISECONDS = 1500;

const id = fc.oneof(fc.integer({ min: 0, max: 9 }), fc.nat(0x7fff_ffff));
const flags = fc.oneof(fc.constantFrom(0, 1, 4, 5, 8, 9, 0xd, 0x25, 0x2d), fc.nat(255));
const payload = fc.oneof(
  fc.uint8Array({ maxLength: 64 }),
  fc.constantFrom(block(GET), block(CALL), grpcMessage("hi"), Buffer.alloc(4), Buffer.alloc(8)),
  fc.constantFrom(Buffer.from("000400000000", "hex"), Buffer.from("7fffffff", "hex")),
);
const anyFrame = fc
  .tuple(fc.oneof(fc.nat(9), fc.nat(255)), flags, id, payload)
  .map(([type, flags, id, payload]) => frame(type, flags, id, payload));
const likelyFrame = fc
  .tuple(fc.constantFrom(1, 3, 5, 7), fc.constantFrom("Echo", "Later", "Never", "Stay", "Flow"))
  .map(([id, method]) => call(id, method));
const input = fc.array(fc.oneof(anyFrame, likelyFrame, fc.uint8Array({ maxLength: 20 })), {
  maxLength: 20,
});

test("random frames", async () => {
  const witness = await RawClient.open(server.port);
  let witnessId = 1;
  await fc.assert(
    fc.asyncProperty(input, fc.nat(40), async (parts, cut) => {
      const client = await RawClient.open(server.port, settings());
      const bytes = Buffer.concat(parts);
      client.send(bytes.subarray(0, cut));
      client.send(bytes.subarray(cut));
      witness.send(call(witnessId));
      expect(await witness.grpcStatus(witnessId)).toBe("0");
      witnessId += 2;
      for (const { type, flags, id, payload } of client.frames) {
        expect(payload.length).toBeLessThanOrEqual(16_384);
        expect(type).not.toBe(FRAME.pushPromise);
        if (type === FRAME.data || type === FRAME.headers) expect(id % 2).toBe(1);
        if (type === FRAME.headers) expect(flags & FLAG.endHeaders).toBe(FLAG.endHeaders);
        if (type === FRAME.goaway) expect(readUint32(payload, 4)).toBeLessThanOrEqual(13);
      }
      client.close();
    }),
    { interruptAfterTimeLimit: MILLISECONDS, numRuns: 2000 },
  );
  expect(witnessId).toBeGreaterThan(20);
  witness.close();
});

test("random octets instead of a preface", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 40 }), async (octets) => {
      const client = await RawClient.bare(server.port);
      client.send(octets);
      client.socket.end();
      await client.ended();
    }),
    { interruptAfterTimeLimit: MILLISECONDS / 3, numRuns: 200 },
  );
  const client = await RawClient.open(server.port);
  client.send(call(1));
  expect(await client.grpcStatus(1)).toBe("0");
  client.close();
});
