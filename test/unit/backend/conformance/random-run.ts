/** Promises of a backend, all at once: a random history reads like a sorted array. */
import { expect, test } from "vitest";
import type { Backend, Row, ScanOptions, Table } from "../../../../shared/backend/backend.ts";
import { compareBytes, concatBytes, hexOf, utf8 } from "../../../../shared/base/bytes.ts";
import type { Bytes } from "../../../../shared/base/bytes.ts";
import { Prng } from "../../../../shared/base/prng.ts";
import { firstRowOf, rowsOf } from "./store-under-test.ts";
import type { StoreUnderTest } from "./store-under-test.ts";

const FF = Uint8Array.of(0xff);

export function randomRuns(store: StoreUnderTest): void {
  test("random writes and reads agree with a sorted array", { timeout: 30_000 }, async () => {
    const seed = Number(process.env["SEED"] ?? 0x5eed);
    const replay = `seed ${seed}; replay: SEED=${seed} npx vitest run --project unit -t sorted`;
    const backend = await store.start();
    await randomRun(backend, new Prng(seed), replay);
  });
}

/**
 * A short alphabet and some long common prefixes: neighbours, prefixes and overwrites are frequent.
 */
function randomKey(prng: Prng): Bytes {
  const bytes = prng.chance(0.15) ? Array.from({ length: prng.pick([600, 2100]) }, () => 0x61) : [];
  const length = prng.between(1, 5);
  for (let at = 0; at < length; at += 1) bytes.push(prng.pick([0, 1, 0x61, 0x62, 0xff]));
  return Uint8Array.from(bytes);
}

function randomRange(prng: Prng): ScanOptions {
  return {
    start: prng.chance(0.7) ? randomKey(prng) : undefined,
    end: prng.chance(0.7) ? randomKey(prng) : undefined,
    reverse: prng.chance(0.5),
  };
}

/** What `options` select of rows that are sorted. */
function modelRange(rows: readonly Row[], options: ScanOptions): string[] {
  const inside = rows.filter(
    ([key]) =>
      (options.start === undefined || compareBytes(key, options.start) >= 0) &&
      (options.end === undefined || compareBytes(key, options.end) < 0),
  );
  if (options.reverse === true) inside.reverse();
  return inside.map(([key, value]) => `${hexOf(key)}=${hexOf(value)}`);
}

async function randomRun(backend: Backend, prng: Prng, replay: string): Promise<void> {
  const tables: readonly Table[] = ["key", "revision"];
  const model = new Map(tables.map((table) => [table, new Map<string, Row>()]));
  const sortedRows = (table: Table) =>
    [...(model.get(table) as Map<string, Row>).values()].sort((a, b) => compareBytes(a[0], b[0]));
  let pinned: { pin: ReturnType<Backend["pin"]>; rows: Row[] } | undefined;
  const defragmentations: Promise<void>[] = [];
  for (let step = 0; step < 300; step += 1) {
    const table = prng.pick(tables);
    backend.apply(backend.visibleIndex + prng.below(2), (writer) => {
      for (let count = prng.below(12); count > 0; count -= 1) {
        const rows = model.get(table) as Map<string, Row>;
        const key =
          prng.chance(0.4) && rows.size > 0 ? prng.pick([...rows.values()])[0] : randomKey(prng);
        if (prng.chance(0.4)) {
          writer.delete(table, key);
          rows.delete(hexOf(key));
        } else {
          const value = utf8(`${step}/${count}`);
          writer.put(table, key, value);
          rows.set(hexOf(key), [key, value]);
        }
        if (prng.chance(0.1)) {
          const options = randomRange(prng);
          expect(rowsOf(backend, table, options), replay).toEqual(
            modelRange(sortedRows(table), options),
          );
        }
      }
    });
    if (prng.chance(0.1)) backend.flush();
    if (prng.chance(0.03)) defragmentations.push(backend.defragment());
    // Lets a backend's background work run between the steps.
    if (prng.chance(0.2)) await new Promise((resolve) => setImmediate(resolve));
    const options = randomRange(prng);
    const rows = sortedRows(table);
    expect(rowsOf(backend, table, options), replay).toEqual(modelRange(rows, options));
    const key = randomKey(prng);
    const expected = model.get(table)?.get(hexOf(key))?.[1];
    expect(backend.get(table, key), replay).toEqual(expected);
    const range = { start: key, end: prng.chance(0.5) ? concatBytes(key, FF) : randomKey(prng) };
    const first = modelRange(rows, range).slice(0, 1);
    expect(firstRowOf(backend, table, range), replay).toEqual(first);
    if (pinned !== undefined) {
      expect(rowsOf(pinned.pin, "key", options), replay).toEqual(modelRange(pinned.rows, options));
      const first = modelRange(pinned.rows, range).slice(0, 1);
      expect(firstRowOf(pinned.pin, "key", range), replay).toEqual(first);
    }
    if (prng.chance(0.05)) {
      pinned?.pin.release();
      pinned = { pin: backend.pin(), rows: sortedRows("key") };
    }
  }
  await Promise.all(defragmentations);
  for (const table of tables) {
    const expected = modelRange(sortedRows(table), {});
    expect(rowsOf(backend, table), `${replay}, defragmented`).toEqual(expected);
  }
  pinned?.pin.release();
}
