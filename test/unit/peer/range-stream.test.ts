/** RangeStream of a peer on memory storage: chunks, their common revision, orders. */
import { expect, test } from "vitest";
import { textOf, utf8 } from "../../../shared/base/bytes.ts";
import { wholeRange } from "../../../shared/mvcc/types.ts";
import { PATIENT_CALL } from "../../support/in-process-cluster.ts";
import { put, startDriven } from "./driven-cluster.ts";

test("streams a range in chunks at one revision; the last one alone has count and header", async () => {
  const { cluster, settled, clock } = await startDriven();
  const member = cluster.member(0);
  const count = 40;
  for (let key = 0; key < count; key += 1) {
    await settled(put(member, `k${String(key).padStart(2, "0")}`, "v"));
  }
  const query = wholeRange(utf8("k"), utf8("l"));
  const stream = member.peer.services.kv.rangeStream(query, { serializable: false }, PATIENT_CALL);
  const chunks: number[] = [];
  const keys: string[] = [];
  const lasts: unknown[] = [];
  let over = false;
  const pull = (async () => {
    for await (const chunk of stream) {
      chunks.push(chunk.kvs.length);
      keys.push(...chunk.kvs.map((kv) => textOf(kv.key)));
      if (chunk.last !== undefined) lasts.push(chunk.last);
      await put(member, "k999", "not seen");
    }
    over = true;
  })();
  await clock.until(() => over);
  await pull;
  expect(chunks).toEqual([10, 20, 10]);
  expect(keys).toEqual(keys.toSorted());
  expect(lasts).toMatchObject([{ count, more: false, header: { revision: count + 1 } }]);
  const sorted = { ...query, sortTarget: "mod" as const, sortOrder: "ascend" as const };
  const refused = member.peer.services.kv.rangeStream(sorted, { serializable: true }, PATIENT_CALL);
  const first = refused[Symbol.asyncIterator]().next();
  await expect(settled(first)).rejects.toMatchObject({ code: "rangeStreamSort" });
});

test("sorts a stream's chunks by a target without an order, and each key comes once", async () => {
  const { cluster, settled } = await startDriven();
  const member = cluster.member(0);
  const all = Array.from({ length: 25 }, (_, at) => `k${String(at).padStart(2, "0")}`);
  // The values fall while the keys rise: a chunk's first by value is its last key.
  for (const [at, key] of all.entries()) await settled(put(member, key, String(99 - at)));
  const { kv } = member.peer.services;
  for (const keysOnly of [false, true]) {
    const query = { ...wholeRange(utf8("k"), utf8("l")), sortTarget: "value" as const, keysOnly };
    const chunks: string[][] = [];
    const pull = async (): Promise<void> => {
      for await (const { kvs } of kv.rangeStream(query, { serializable: true }, PATIENT_CALL)) {
        chunks.push(kvs.map(({ key, value }) => `${textOf(key)} ${textOf(value)}`));
      }
    };
    await settled(pull());
    const shown = all.map((key, at) => `${key} ${keysOnly ? "" : String(99 - at)}`);
    expect(chunks).toEqual([shown.slice(0, 10).toReversed(), shown.slice(10).toReversed()]);
  }
});
