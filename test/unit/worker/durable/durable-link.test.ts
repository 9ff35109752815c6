/** The link of a peer in a Durable Object on a socket that throws at whoever sends after its close. */
import { expect, test } from "vitest";
import { utf8 } from "../../../../shared/base/bytes.ts";
import { LIMITS } from "../../../../shared/base/limits.ts";
import { encodeCallFrame, joinFrames } from "../../../../shared/wire/link-codec.ts";
import { LINK_VERSION } from "../../../../shared/wire/link.ts";
import { serveSocket } from "../../../../worker/durable/durable-link.ts";
import type { ServerSocket } from "../../../../worker/workerd.ts";
import { PATIENT_CALL } from "../../../support/in-process-cluster.ts";
import { MemoryServices } from "../../../support/memory-services.ts";

const PATIENT = { timeout: 30_000 };

/** As workerd has it. */
class Socket extends EventTarget {
  binaryType = "";
  bufferedAmount = 0;
  sent = 0;
  closedWith: number | undefined;

  accept(): void {
    // It is open.
  }

  send(): void {
    if (this.closedWith !== undefined) throw new TypeError("Can't call send() after close().");
    this.sent += 1;
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
  serveSocket(node, socket as unknown as ServerSocket);
  const hello = { kind: "hello", version: LINK_VERSION, role: "client", token: "" } as const;
  const plain = { noPut: false, noDelete: false, previousKv: false, fragment: false };
  const watched = { key: utf8("a"), rangeEnd: utf8("b"), startRevision: 0, watchId: 0n };
  const opening = [
    hello,
    { kind: "watchOpen", stream: 1, requireLeader: false },
    { kind: "watchCreate", stream: 1, create: { ...watched, ...plain, progressNotify: false } },
  ] as const;
  socket.receive(joinFrames(opening.map(encodeCallFrame)).slice().buffer);
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
