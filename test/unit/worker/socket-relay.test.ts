/** worker/socket-relay: what passes between two sockets, and what ends both. */
import { describe, expect, test } from "vitest";
import { LIMITS } from "../../../shared/base/limits.ts";
import { relay } from "../../../worker/socket-relay.ts";
import type { Frame } from "../../../worker/socket-relay.ts";
import type { ServerSocket } from "../../../worker/workerd.ts";

interface Event {
  readonly data?: unknown;
  readonly code?: number;
  readonly reason?: string;
}

/** A socket that keeps what it is given, and says what a test lets it say. */
class FakeSocket {
  binaryType = "blob";
  bufferedAmount = 0;
  readonly sent: Frame[] = [];
  closed: { readonly code: number | undefined; readonly reason: string | undefined } | undefined;
  readonly #listeners = new Map<string, (event: Event) => void>();

  accept(): void {}

  send(frame: Frame): void {
    this.sent.push(frame);
  }

  close(code?: number, reason?: string): void {
    this.closed ??= { code, reason };
  }

  addEventListener(type: string, listener: (event: Event) => void): void {
    this.#listeners.set(type, listener);
  }

  emit(type: "message" | "close" | "error", event: Event = {}): void {
    this.#listeners.get(type)?.(event);
  }
}

const joined = (pass = (frame: Frame): Frame => frame): [FakeSocket, FakeSocket] => {
  const [from, to] = [new FakeSocket(), new FakeSocket()];
  relay(from as unknown as ServerSocket, to as unknown as ServerSocket, pass);
  return [from, to];
};

describe("a relay", () => {
  test("passes text and bytes on, as they may pass", () => {
    const [from, to] = joined((frame) => (typeof frame === "string" ? `${frame}!` : frame));
    from.emit("message", { data: "a" });
    from.emit("message", { data: Uint8Array.of(1, 2).buffer });
    expect([from.binaryType, ...to.sent]).toEqual(["arraybuffer", "a!", Uint8Array.of(1, 2)]);
  });

  test("ends both when a frame may not pass", () => {
    const [from, to] = joined(() => {
      throw new Error("permission denied");
    });
    from.emit("message", { data: "a" });
    expect(to.sent).toEqual([]);
    for (const side of [from, to]) {
      expect(side.closed).toEqual({ code: 1008, reason: "permission denied" });
    }
  });

  test("ends both when too much waits for a slow reader, and not before", () => {
    const [from, to] = joined();
    to.bufferedAmount = LIMITS.linkUnsentBytesSlow;
    from.emit("message", { data: "a" });
    expect([from.closed, to.closed]).toEqual([undefined, undefined]);
    to.bufferedAmount += 1;
    from.emit("message", { data: "b" });
    expect([from.closed?.code, to.closed?.code]).toEqual([1013, 1013]);
  });

  test.each([
    [1000, 1000],
    [4001, 4001],
    [1006, 1000],
    [undefined, 1000],
  ])("a close with %s is passed on as %s", (code, sent) => {
    const [from, to] = joined();
    from.emit("close", code === undefined ? {} : { code, reason: "why" });
    expect(to.closed?.code).toBe(sent);
  });

  test("a side that breaks ends the other", () => {
    const [from, to] = joined();
    from.emit("error");
    expect(to.closed?.code).toBe(1012);
  });
});
