/** Watches over the edge's WebSocket: JSON messages, resumed by id, paced by their reader. */
import { afterEach, expect, test } from "vitest";
import { LIMITS } from "../../shared/base/limits.ts";
import { jsonOf, problemOf } from "./edge.ts";
import type { Edge } from "./edge.ts";

const PATIENCE = { timeout: 60_000, interval: 50 };

interface Message {
  readonly event: string;
  readonly id?: string;
  readonly data?: { readonly value?: string; readonly revision?: number };
}

/** Reads messages in order; answers syncs unless told not to. */
class WatchReader {
  readonly #socket: WebSocket;
  readonly #messages: Message[] = [];
  #wake: (() => void) | undefined;
  closed: { code: number } | undefined;
  answersSyncs = true;
  readonly syncs: string[] = [];

  constructor(url: string) {
    this.#socket = new WebSocket(url.replace(/^http/, "ws"));
    this.#socket.addEventListener("message", ({ data }) => {
      const message = JSON.parse(String(data)) as Message;
      if (message.event === "sync") {
        this.syncs.push(message.id ?? "");
        if (this.answersSyncs) this.#socket.send(message.id ?? "");
        return;
      }
      this.#messages.push(message);
      this.#wake?.();
    });
    this.#socket.addEventListener("close", ({ code }) => {
      this.closed = { code };
      this.#wake?.();
    });
  }

  get waiting(): number {
    return this.#messages.length;
  }

  answer(sync: string): void {
    this.#socket.send(sync);
  }

  async take(count: number): Promise<Message[]> {
    const deadline = Date.now() + PATIENCE.timeout;
    while (this.#messages.length < count) {
      if (this.closed !== undefined || Date.now() > deadline) {
        throw new Error(`${this.#messages.length} of ${count}, closed ${this.closed?.code}`);
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, 250);
      });
    }
    return this.#messages.splice(0, count);
  }

  close(): void {
    this.#socket.close();
  }
}

export function watchSocketSuite(edgeOf: () => Edge): void {
  const open: WatchReader[] = [];
  afterEach(() => {
    for (const reader of open.splice(0)) reader.close();
  });
  const put = async (key: string, value: string): Promise<number> => {
    const answer = await edgeOf().fetch(`/kv/${key}`, { method: "PUT", body: value });
    return (await jsonOf<{ revision: number }>(answer)).revision;
  };
  const read = (path: string): WatchReader | undefined => {
    const { url } = edgeOf();
    if (url === undefined) return undefined;
    const reader = new WatchReader(url + path);
    open.push(reader);
    return reader;
  };

  test("events arrive as they happen, and an id resumes after it", async () => {
    const reader = read("/watch?prefix=ws/");
    if (reader === undefined) {
      // A runtime without WebSockets says so.
      await problemOf(await edgeOf().refusedUpgrade("/watch?prefix=ws/"), 501);
      return;
    }
    expect(await reader.take(1)).toMatchObject([{ event: "ready" }]);
    const first = await put("ws/a", "1");
    const [seen] = await reader.take(1);
    expect(seen).toMatchObject({ event: "put", id: `${first}.1`, data: { value: "1" } });
    const second = await put("ws/a", "2");
    const resumed = read(`/watch?prefix=ws/&lastEventId=${seen?.id}`) as WatchReader;
    expect(await resumed.take(2)).toMatchObject([
      { event: "ready", id: seen?.id },
      { event: "put", id: `${second}.1`, data: { value: "2" } },
    ]);
  });

  test("history that is gone is told, and the watch goes on", async () => {
    const first = await put("wsc/a", "1");
    const second = await put("wsc/a", "2");
    const body = JSON.stringify({ revision: `${second}` });
    await jsonOf(await edgeOf().fetch("/v3/kv/compaction", { method: "POST", body }));
    // A member that hasn't compacted yet has the history still.
    const watched = async (): Promise<readonly Message[] | undefined> =>
      read(`/watch?key=wsc/a&revision=${first}`)?.take(2);
    if (edgeOf().url === undefined) return;
    await expect.poll(watched, PATIENCE).toMatchObject([
      { event: "compacted", data: { compactRevision: second } },
      { event: "put", data: { value: "2" } },
    ]);
  });

  test("a reader that doesn't answer gets a bounded amount, then all the rest", async () => {
    const value = "x".repeat(16 * 1024);
    const count = 80;
    const reader = read("/watch?prefix=wsl/");
    if (reader === undefined) return;
    reader.answersSyncs = false;
    await reader.take(1);
    for (let each = 0; each < count; each += 1) await put(`wsl/${each}`, value);
    await expect.poll(() => reader.syncs.length, PATIENCE).toBe(2);
    const sent = reader.waiting;
    expect(sent * value.length).toBeLessThan(4 * LIMITS.edgeWatchBytesMax);
    reader.answersSyncs = true;
    for (const sync of reader.syncs) reader.answer(sync);
    const events = await reader.take(count);
    expect(new Set(events.map(({ id }) => id)).size).toBe(count);
  });
}
