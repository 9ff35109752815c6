/**
 * Links of a Durable Object: on a socket that throws at whoever sends after its close, and many of them, which hold a
 * bounded number of bytes together.
 */
import { afterEach, describe, expect, test } from "vitest";
import { utf8 } from "../../../../shared/base/bytes.ts";
import type { Bytes } from "../../../../shared/base/bytes.ts";
import { LIMITS } from "../../../../shared/base/limits.ts";
import {
  decodeReplyBatch,
  encodeCallFrame,
  joinFrames,
} from "../../../../shared/wire/link-codec.ts";
import { LINK_VERSION } from "../../../../shared/wire/link.ts";
import { serveSocket } from "../../../../worker/durable/durable-link.ts";
import { LinkRoom } from "../../../../worker/durable/link-room.ts";
import type { ServerSocket } from "../../../../worker/workerd.ts";
import { PATIENT_CALL, startInProcessCluster } from "../../../support/in-process-cluster.ts";
import { MemoryServices } from "../../../support/memory-services.ts";
import { watchRequest } from "../../../support/watch-request.ts";

const PATIENT = { timeout: 30_000 };

/** What a watcher of keys that begin with a says. */
const OPENING = ((): Bytes => {
  const hello = { kind: "hello", version: LINK_VERSION, role: "client", token: "" } as const;
  const create = watchRequest({ key: utf8("a"), rangeEnd: utf8("b") });
  const opening = [
    hello,
    { kind: "watchOpen", stream: 1, requireLeader: false },
    { kind: "watchCreate", stream: 1, create },
  ] as const;
  return joinFrames(opening.map(encodeCallFrame));
})();

/** As workerd has it. */
class Socket extends EventTarget {
  binaryType = "";
  bufferedAmount = 0;
  sent = 0;
  /** Takes what is sent; a socket without one keeps the count alone. */
  taken: ((batch: Bytes) => void) | undefined;
  closedWith: number | undefined;

  accept(): void {
    // It is open.
  }

  send(batch: Bytes): void {
    if (this.closedWith !== undefined) throw new TypeError("Can't call send() after close().");
    this.sent += 1;
    this.taken?.(batch);
  }

  close(code?: number): void {
    this.closedWith ??= code ?? 1000;
  }

  receive(data: unknown): void {
    this.dispatchEvent(new MessageEvent("message", { data }));
  }
}

test.each([
  ["reads too slowly", 1013, (socket: Socket): void => void (socket.bufferedAmount = 1e9)],
  ["sends text", 1003, (socket: Socket): void => socket.receive("text")],
] as const)("one that %s is closed, and what it watches goes on", async (_, code, offend) => {
  const services = new MemoryServices();
  const { clusterId, memberId } = services;
  const socket = new Socket();
  const node = { clusterId, memberId, peer: { services }, fence: { pass: () => undefined } };
  serveSocket(node, socket as unknown as ServerSocket, new LinkRoom());
  socket.receive(OPENING.slice().buffer);
  await expect.poll(() => socket.sent, PATIENT).toBeGreaterThan(0);
  // An event of this size leaves in the very call that delivers it.
  const value = new Uint8Array(LIMITS.linkBatchBytes);
  const put = (key: string): Promise<unknown> => {
    const op = { kind: "put", key: utf8(key), value, lease: 0n } as const;
    const rest = { previousKv: false, ignoreValue: false, ignoreLease: false };
    return services.kv.put({ ...op, ...rest }, PATIENT_CALL);
  };
  await put("a1");
  offend(socket);
  await put("a2");
  await put("a3");
  expect(socket.closedWith).toBe(code);
  await expect.poll(() => services.openStreams, PATIENT).toBe(0);
});

const LINKS = 60;
const VALUE_BYTES = 512 * 1024;

describe("many links of one object that watch large values", () => {
  const stops: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const stop of stops.splice(0)) await stop();
  });

  /**
   * Sockets that hold what is sent to them until the test lets it go, and the revisions that they heard of. Those
   * from `readFrom` on hold nothing.
   */
  async function open(readFrom = LINKS, room = new LinkRoom()) {
    const cluster = startInProcessCluster();
    stops.push(() => cluster.stop());
    await cluster.ready();
    const { services } = cluster.member(0).peer;
    const node = { clusterId: 1n, memberId: 1n, peer: { services }, fence: { pass: () => {} } };
    let heldBytesMax = 0;
    const links = Array.from({ length: LINKS }, (_, place) => {
      const socket = new Socket();
      const revisions: number[] = [];
      let isReady = false;
      socket.taken = (batch) => {
        if (place < readFrom) socket.bufferedAmount += batch.length;
        for (const frame of decodeReplyBatch(batch)) {
          if (frame.kind !== "watchResponse") continue;
          if (frame.response.created) isReady = true;
          for (const { kv } of frame.response.events) revisions.push(kv.modRevision);
        }
        const held = links.reduce((sum, link) => sum + link.socket.bufferedAmount, 0);
        heldBytesMax = Math.max(heldBytesMax, held);
      };
      serveSocket(node, socket as unknown as ServerSocket, room);
      socket.receive(OPENING.slice().buffer);
      return { socket, revisions, isReady: () => isReady };
    });
    await expect.poll(() => links.every(({ isReady }) => isReady()), PATIENT).toBe(true);
    const put = async (key: string): Promise<number> => {
      const op = { kind: "put", key: utf8(key), value: new Uint8Array(VALUE_BYTES) } as const;
      const rest = { lease: 0n, previousKv: false, ignoreValue: false, ignoreLease: false };
      return (await services.kv.put({ ...op, ...rest }, PATIENT_CALL)).header.revision;
    };
    return { links, put, heldBytesMax: () => heldBytesMax };
  }

  const ROOM = LIMITS.durableLinksBytesMax + 2 * LIMITS.linkBatchBytes;

  test("hold a bounded number of bytes together, and each hears of everything once and in order", async () => {
    const { links, put, heldBytesMax } = await open();
    const revisions = [await put("a1"), await put("a2"), await put("a3")];
    const read = (): boolean => {
      for (const { socket } of links) socket.bufferedAmount = 0;
      return links.every((link) => link.revisions.length >= revisions.length);
    };
    await expect.poll(read, PATIENT).toBe(true);
    for (const link of links) expect(link.revisions).toEqual(revisions);
    expect(heldBytesMax()).toBeGreaterThan(LIMITS.durableLinksBytesMax / 2);
    expect(heldBytesMax()).toBeLessThanOrEqual(ROOM);
  });

  test("some that don't read are ended, and the others go on", async () => {
    const { links, put, heldBytesMax } = await open(LINKS / 2, new LinkRoom(20));
    const stuck = links.slice(0, LINKS / 2);
    const reading = links.slice(LINKS / 2);
    const revisions = [await put("a1"), await put("a2")];
    const areServed = (): boolean => {
      // What a closed socket held is gone.
      for (const { socket } of stuck)
        if (socket.closedWith !== undefined) socket.bufferedAmount = 0;
      return reading.every((link) => link.revisions.length >= revisions.length);
    };
    await expect.poll(areServed, PATIENT).toBe(true);
    for (const link of reading) {
      expect(link.revisions).toEqual(revisions);
      expect(link.socket.closedWith).toBeUndefined();
    }
    expect(stuck.some(({ socket }) => socket.closedWith === 1013)).toBe(true);
    expect(heldBytesMax()).toBeLessThanOrEqual(ROOM);
  });
});
