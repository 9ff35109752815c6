/** Writes whose answers are lost on the way to the edge: sent again, applied once. */
import { afterEach, describe, expect, test } from "vitest";
import { jsonOf } from "./edge.ts";
import type { Edge, StartEdge } from "./edge.ts";
import { lossyPeer } from "./fake-peer.ts";
import type { Loss } from "./fake-peer.ts";

export function retrySuite(start: StartEdge, peersOf: () => readonly string[]): void {
  const open: { stop(): Promise<void> }[] = [];
  afterEach(async () => {
    await Promise.all(open.splice(0).map((each) => each.stop()));
  });

  async function startLossy(strips: boolean): Promise<{ edge: Edge; loss: Loss }> {
    const loss: Loss = { answers: 0, stripsIdentities: strips, writes: 0 };
    const peers = await Promise.all(peersOf().map((url) => lossyPeer(url, loss)));
    // No try is given up before its answer was lost, however slow the machine is.
    const edge = await start(
      peers.map(({ url }) => url),
      { QUORATE_TIMEOUT_MS: "60000" },
    );
    open.push(edge, ...peers);
    return { edge, loss };
  }

  const versionOf = async (edge: Edge, path: string): Promise<number> => {
    const got = await edge.fetch(path);
    await got.body?.cancel();
    return Number(got.headers.get("x-quorate-version"));
  };

  describe.each([
    { strips: false, applied: 1, name: "applies once" },
    { strips: true, applied: 2, name: "negative control: without its identity it applies twice" },
  ])("$name", ({ strips, applied }) => {
    test("a put, with the revision of the write that counted", async () => {
      const { edge, loss } = await startLossy(strips);
      loss.answers = 1;
      const path = `/kv/retried-${strips}`;
      const put = await edge.fetch(path, { method: "PUT", body: "x" });
      const { revision } = await jsonOf<{ revision: number }>(put);
      // An election may cost further tries.
      expect(loss.writes).toBeGreaterThanOrEqual(2);
      expect(await versionOf(edge, path)).toBe(applied);
      expect((await edge.fetch(path)).headers.get("etag")).toBe(`"${revision}"`);
    });

    test("a transaction that reads, compares and writes", async () => {
      const { edge, loss } = await startLossy(strips);
      const key = `counted-${strips}`;
      await jsonOf(await edge.fetch(`/kv/${key}`, { method: "PUT", body: "0" }));
      loss.answers = 1;
      const body = JSON.stringify({
        if: [{ key, target: "version", is: "=", value: 1 }],
        do: [{ put: { key, value: "1" } }, { get: { key } }],
        else: [{ put: { key: `${key}/lost`, value: "1" } }],
      });
      const answer = await jsonOf(await edge.fetch("/txn", { method: "POST", body }));
      // Sent again as another write, it would find its own effect and take the other branch.
      expect(answer).toMatchObject({ succeeded: !strips });
      expect(await versionOf(edge, `/kv/${key}`)).toBe(2);
    });
  });

  test("deletes and grants whose answer is lost are told as they were", async () => {
    const { edge, loss } = await startLossy(false);
    await jsonOf(await edge.fetch("/kv/gone", { method: "PUT", body: "x" }));
    loss.answers = 1;
    const removed = await jsonOf(await edge.fetch("/kv/gone", { method: "DELETE" }));
    expect(removed).toMatchObject({ deleted: 1 });
    loss.answers = 1;
    const lease = { method: "POST", body: '{"ttl":30}' };
    const { id } = await jsonOf<{ id: string }>(await edge.fetch("/lease", lease), 201);
    loss.answers = 2;
    await jsonOf(await edge.fetch(`/lease/${id}`, { method: "DELETE" }));
    expect(loss.writes).toBeGreaterThanOrEqual(1 + 2 + 2 + 3);
  });

  test("negative control: without its identity a delete finds nothing the second time", async () => {
    const { edge, loss } = await startLossy(true);
    await jsonOf(await edge.fetch("/kv/gone", { method: "PUT", body: "x" }));
    loss.answers = 1;
    const removed = await jsonOf(await edge.fetch("/kv/gone", { method: "DELETE" }));
    expect(removed).toMatchObject({ deleted: 0 });
  });
}
