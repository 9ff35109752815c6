/**
 * The promises of `shared/backend/backend.ts`, a test for each. Every backend runs them in one
 * line:
 *
 *     backendConformance("memory", async () => ({ backend: new MemoryBackend() }));
 *
 * `open` makes a new, empty store for each test; the suite closes it. `reopen` (stores that outlive
 * a process) closes the backend it is given, gracefully, and opens the same store again; without it
 * the tests of durability don't run.
 */
import { afterEach, describe, expect, test } from "vitest";
import {
  type Backend,
  BackendError,
  type BackendReader,
  type Row,
  type ScanOptions,
  type Table,
  TABLES,
} from "../../../shared/backend/backend.ts";
import {
  type Bytes,
  compareBytes,
  concatBytes,
  EMPTY,
  hexOf,
  utf8,
} from "../../../shared/base/bytes.ts";
import { Prng } from "../../../shared/base/prng.ts";

const FF = Uint8Array.of(0xff);

export interface OpenedBackend {
  readonly backend: Backend;
  readonly reopen?: (backend: Backend) => Promise<Backend>;
  /** Called after the test, when the backend is closed: removes files. */
  readonly remove?: () => Promise<void>;
}

/** Rows as text, `key=value` in hexadecimal: readable in a failure. */
function rowsOf(reader: BackendReader, table: Table, options: ScanOptions = {}): string[] {
  const rows: string[] = [];
  reader.scan(table, options, (key, value) => {
    rows.push(`${hexOf(key)}=${hexOf(value)}`);
    return true;
  });
  return rows;
}

/** As `rowsOf`, of the first row of the range. */
function firstRowOf(reader: BackendReader, table: Table, range: ScanOptions): string[] {
  const rows: string[] = [];
  reader.scan(table, { ...range, firstOnly: true }, (key, value) => {
    rows.push(`${hexOf(key)}=${hexOf(value)}`);
    return false;
  });
  return rows;
}

function textsOf(reader: BackendReader, table: Table, options: ScanOptions = {}): string[] {
  const keys: string[] = [];
  reader.scan(table, options, (key) => {
    keys.push(String.fromCharCode(...key));
    return true;
  });
  return keys;
}

function putAll(backend: Backend, table: Table, keys: readonly string[]): void {
  backend.apply(backend.visibleIndex, (writer) => {
    for (const key of keys) writer.put(table, utf8(key), utf8(`value of ${key}`));
  });
}

/** A key of `length` bytes that differs from its neighbours only in its last bytes. */
function longKey(length: number, last: number): Bytes {
  const key = new Uint8Array(length).fill(0x61);
  key[length - 1] = last & 0xff;
  key[length - 2] = last >> 8;
  return key;
}

export function backendConformance(name: string, open: () => Promise<OpenedBackend>): void {
  describe(`${name} backend`, () => {
    let opened: OpenedBackend | undefined;
    let current: Backend | undefined;

    async function start(): Promise<Backend> {
      opened = await open();
      current = opened.backend;
      return current;
    }

    async function restart(): Promise<Backend> {
      if (opened?.reopen === undefined || current === undefined) throw new Error("no reopen");
      current = await opened.reopen(current);
      return current;
    }

    afterEach(async () => {
      await current?.close();
      await opened?.remove?.();
      current = undefined;
      opened = undefined;
    });

    describe("reads and writes", () => {
      test("a new store is empty and at index 0", async () => {
        const backend = await start();
        expect(backend.visibleIndex).toBe(0);
        expect(backend.durableIndex).toBe(0);
        for (const table of TABLES) {
          expect(rowsOf(backend, table)).toEqual([]);
          expect(backend.get(table, utf8("a"))).toBeUndefined();
        }
      });

      test("what was put is there at once, with the index of its apply", async () => {
        const backend = await start();
        backend.apply(3, (writer) => {
          writer.put("meta", utf8("a"), utf8("1"));
          writer.put("key", utf8("b"), utf8("2"));
        });
        expect(backend.visibleIndex).toBe(3);
        expect(backend.durableIndex).toBeLessThanOrEqual(3);
        expect(rowsOf(backend, "meta")).toEqual(["61=31"]);
        expect(rowsOf(backend, "key")).toEqual(["62=32"]);
        expect(backend.get("key", utf8("b"))).toEqual(utf8("2"));
      });

      test("tables are apart: the same key in each of them", async () => {
        const backend = await start();
        backend.apply(1, (writer) => {
          for (const table of TABLES) writer.put(table, utf8("same"), utf8(table));
        });
        backend.apply(2, (writer) => writer.delete("lease", utf8("same")));
        for (const table of TABLES) {
          const expected = table === "lease" ? undefined : utf8(table);
          expect(backend.get(table, utf8("same"))).toEqual(expected);
        }
      });

      test("later writes to a key win, within one apply and over applies", async () => {
        const backend = await start();
        backend.apply(1, (writer) => {
          writer.put("key", utf8("a"), utf8("1"));
          writer.put("key", utf8("a"), utf8("2"));
          writer.put("key", utf8("b"), utf8("1"));
          writer.delete("key", utf8("b"));
          writer.delete("key", utf8("c"));
          writer.put("key", utf8("c"), utf8("3"));
        });
        expect(rowsOf(backend, "key")).toEqual(["61=32", "63=33"]);
        backend.apply(2, (writer) => {
          writer.put("key", utf8("a"), utf8("4"));
          writer.delete("key", utf8("c"));
          writer.delete("key", utf8("never there"));
        });
        expect(rowsOf(backend, "key")).toEqual(["61=34"]);
      });

      test("values may be empty, which is not absent", async () => {
        const backend = await start();
        backend.apply(1, (writer) => writer.put("key", utf8("a"), EMPTY));
        const value = backend.get("key", utf8("a"));
        expect(value).toBeDefined();
        expect(value?.length).toBe(0);
        expect(rowsOf(backend, "key")).toEqual(["61="]);
      });

      test("values of several MiB come back whole", async () => {
        const backend = await start();
        const value = new Uint8Array(3 * 1024 * 1024 + 7);
        for (let i = 0; i < value.length; i += 1) value[i] = (i * 31) & 0xff;
        backend.apply(1, (writer) => writer.put("revision", utf8("big"), value));
        expect(compareBytes(backend.get("revision", utf8("big")) ?? EMPTY, value)).toBe(0);
      });
    });

    describe("order and ranges", () => {
      test("order is unsigned bytes, a prefix first, upwards and downwards", async () => {
        const backend = await start();
        const sorted = ["00", "0000", "00ff", "01", "7f", "80", "8000", "ff", "ff00", "ffff"];
        const shuffled = [...sorted].sort((a, b) => hexOf(utf8(a)).localeCompare(b));
        backend.apply(1, (writer) => {
          for (const hex of shuffled) {
            const bytes = hex.match(/../g) ?? [];
            writer.put(
              "key",
              Uint8Array.from(bytes, (byte) => Number.parseInt(byte, 16)),
              EMPTY,
            );
          }
        });
        const rows = sorted.map((hex) => `${hex}=`);
        expect(rowsOf(backend, "key")).toEqual(rows);
        expect(rowsOf(backend, "key", { reverse: true })).toEqual(rows.toReversed());
      });

      test("start is included, end is excluded, in both directions", async () => {
        const backend = await start();
        putAll(backend, "key", ["a", "b", "c", "d"]);
        const cases: [ScanOptions, string][] = [
          [{}, "abcd"],
          [{ start: utf8("b") }, "bcd"],
          [{ end: utf8("c") }, "ab"],
          [{ start: utf8("b"), end: utf8("d") }, "bc"],
          [{ start: utf8("bb"), end: utf8("cc") }, "c"],
          [{ start: utf8("b"), end: utf8("b") }, ""],
          [{ start: utf8("c"), end: utf8("b") }, ""],
          [{ start: utf8("e") }, ""],
          [{ end: utf8("a") }, ""],
          [{ start: utf8("0"), end: utf8("z") }, "abcd"],
          [{ start: undefined, end: undefined }, "abcd"],
        ];
        for (const [options, expected] of cases) {
          const down = expected.split("").toReversed().join("");
          expect(textsOf(backend, "key", options).join("")).toBe(expected);
          expect(textsOf(backend, "key", { ...options, reverse: true }).join("")).toBe(down);
        }
      });

      test("a scan ends when the visitor answers false", async () => {
        const backend = await start();
        putAll(backend, "key", ["a", "b", "c", "d"]);
        for (const reverse of [false, true]) {
          const seen: string[] = [];
          backend.scan("key", { reverse }, (key) => {
            seen.push(String.fromCharCode(...key));
            return seen.length < 2;
          });
          expect(seen).toEqual(reverse ? ["d", "c"] : ["a", "b"]);
        }
      });

      test("a scan for keys only visits the same keys", async () => {
        const backend = await start();
        putAll(backend, "key", ["a", "b", "c"]);
        expect(textsOf(backend, "key", { keysOnly: true })).toEqual(["a", "b", "c"]);
        expect(textsOf(backend, "key", { keysOnly: true, reverse: true })).toEqual(["c", "b", "a"]);
      });

      test("a scan and gets may run inside a visitor", async () => {
        const backend = await start();
        putAll(backend, "key", ["a", "b"]);
        const pairs: string[] = [];
        backend.scan("key", {}, (outer) => {
          expect(backend.get("key", outer)).toBeDefined();
          backend.scan("key", { reverse: true }, (inner) => {
            pairs.push(String.fromCharCode(...outer, ...inner));
            return true;
          });
          return true;
        });
        expect(pairs).toEqual(["ab", "aa", "bb", "ba"]);
      });

      test("long keys that share all but their last bytes keep order", async () => {
        const backend = await start();
        const lengths = [500, 501, 1977, 1978, 1979, 2000, 4095, 4096, 9000, 1_600_000];
        const keys = lengths.flatMap((length) => [2, 1, 300].map((last) => longKey(length, last)));
        // Prefixes of one another, around every length at which a store may start to treat keys in
        // another way.
        for (let length = 1; length < 4200; length += 53) {
          keys.push(new Uint8Array(length).fill(0x61));
        }
        const sorted = [...keys].sort(compareBytes);
        backend.apply(1, (writer) => {
          for (const [at, key] of keys.entries()) writer.put("key", key, utf8(String(at)));
        });
        for (const reverse of [false, true]) {
          const expected = reverse ? sorted.toReversed() : sorted;
          let at = 0;
          backend.scan("key", { reverse }, (key) => {
            expect(compareBytes(key, expected[at] as Bytes)).toBe(0);
            at += 1;
            return true;
          });
          expect(at).toBe(sorted.length);
        }
        for (const [at, key] of keys.entries()) {
          expect(backend.get("key", key)).toEqual(utf8(String(at)));
        }
        const [low, high] = [longKey(2000, 1), longKey(2000, 300)];
        let inside = 0;
        backend.scan("key", { start: low, end: high }, (key) => {
          expect(compareBytes(key, low)).toBeGreaterThanOrEqual(0);
          expect(compareBytes(key, high)).toBe(-1);
          inside += 1;
          return true;
        });
        const within = (key: Bytes) => compareBytes(key, low) >= 0 && compareBytes(key, high) < 0;
        expect(inside).toBe(sorted.filter(within).length);
        backend.apply(2, (writer) => {
          for (const key of keys) if (key.length > 1000) writer.delete("key", key);
        });
        expect(rowsOf(backend, "key").length).toBe(keys.filter((k) => k.length <= 1000).length);
      });
    });

    describe("apply", () => {
      test("fill reads what it wrote, in both directions", async () => {
        const backend = await start();
        putAll(backend, "key", ["a", "c"]);
        backend.apply(1, (writer) => {
          writer.put("key", utf8("b"), utf8("new"));
          writer.put("key", utf8("c"), utf8("changed"));
          writer.delete("key", utf8("a"));
          expect(backend.get("key", utf8("b"))).toEqual(utf8("new"));
          expect(backend.get("key", utf8("c"))).toEqual(utf8("changed"));
          expect(backend.get("key", utf8("a"))).toBeUndefined();
          expect(textsOf(backend, "key")).toEqual(["b", "c"]);
          expect(textsOf(backend, "key", { reverse: true })).toEqual(["c", "b"]);
          writer.put("key", utf8("a"), utf8("back"));
          writer.delete("key", utf8("b"));
          expect(textsOf(backend, "key")).toEqual(["a", "c"]);
        });
        expect(textsOf(backend, "key")).toEqual(["a", "c"]);
      });

      test("the index may stand still, and never falls", async () => {
        const backend = await start();
        backend.apply(5, (writer) => writer.put("key", utf8("a"), EMPTY));
        backend.apply(5, (writer) => writer.delete("key", utf8("a")));
        expect(backend.visibleIndex).toBe(5);
        backend.apply(6, () => {});
        expect(backend.visibleIndex).toBe(6);
        expect(() => backend.apply(5, () => {})).toThrow("5");
        expect(backend.visibleIndex).toBe(6);
      });

      test("a fill that throws makes the store unusable", async () => {
        const backend = await start();
        putAll(backend, "key", ["a"]);
        const fault = new Error("a defect");
        expect(() =>
          backend.apply(1, (writer) => {
            writer.put("key", utf8("half"), EMPTY);
            throw fault;
          }),
        ).toThrow(fault);
        expect(() => backend.get("key", utf8("a"))).toThrow();
        expect(() => backend.scan("key", {}, () => true)).toThrow();
        expect(() => backend.apply(2, () => {})).toThrow();
        expect(() => backend.pin()).toThrow();
        current = undefined;
        await backend.close().catch(() => {});
      });

      test("durableIndex follows a flush and never passes visibleIndex", async () => {
        const backend = await start();
        for (let index = 1; index <= 50; index += 1) {
          backend.apply(index, (writer) => writer.put("key", utf8(`k${index}`), EMPTY));
          expect(backend.durableIndex).toBeLessThanOrEqual(index);
        }
        backend.flush();
        await expect.poll(() => backend.durableIndex, { interval: 1 }).toBe(50);
      });
    });

    describe("pins", () => {
      test("a pin is the state of its moment while writes go on", async () => {
        const backend = await start();
        putAll(backend, "key", ["a", "b", "c"]);
        backend.apply(7, (writer) => writer.put("meta", utf8("m"), utf8("7")));
        const pin = backend.pin();
        const before = rowsOf(backend, "key");
        expect(pin.index).toBe(7);
        for (let index = 8; index < 60; index += 1) {
          backend.apply(index, (writer) => {
            writer.put("key", utf8(`k${index}`), EMPTY);
            writer.put("key", utf8("b"), utf8(String(index)));
            writer.put("meta", utf8("m"), utf8(String(index)));
            writer.delete("key", utf8("a"));
          });
          if (index % 10 === 0) backend.flush();
          expect(rowsOf(pin, "key")).toEqual(before);
          expect(pin.get("key", utf8("a"))).toEqual(utf8("value of a"));
          expect(pin.get("meta", utf8("m"))).toEqual(utf8("7"));
        }
        await expect.poll(() => backend.durableIndex, { interval: 1 }).toBeGreaterThanOrEqual(50);
        expect(rowsOf(pin, "key", { reverse: true })).toEqual(before.toReversed());
        pin.release();
        expect(textsOf(backend, "key").length).toBe(2 + 52);
      });

      test("pins of several moments are apart, and reads on the store see the newest", async () => {
        const backend = await start();
        const pins = [];
        for (let index = 1; index <= 8; index += 1) {
          backend.apply(index, (writer) => writer.put("key", utf8("k"), utf8(String(index))));
          pins.push(backend.pin());
        }
        backend.flush();
        for (const [at, pin] of pins.entries()) {
          expect(pin.index).toBe(at + 1);
          expect(pin.get("key", utf8("k"))).toEqual(utf8(String(at + 1)));
        }
        for (const pin of pins.toReversed()) pin.release();
        expect(backend.get("key", utf8("k"))).toEqual(utf8("8"));
      });
    });

    describe("shadows", () => {
      test("an installed shadow replaces everything", async () => {
        const backend = await start();
        putAll(backend, "key", ["old"]);
        backend.apply(4, (writer) => writer.put("lease", utf8("old"), EMPTY));
        const shadow = backend.shadow();
        shadow.apply((writer) => writer.put("key", utf8("a"), utf8("1")));
        shadow.apply((writer) => {
          writer.put("key", utf8("b"), utf8("2"));
          writer.put("meta", utf8("m"), EMPTY);
        });
        expect(textsOf(backend, "key")).toEqual(["old"]);
        backend.apply(5, (writer) => writer.put("key", utf8("meanwhile"), EMPTY));
        await shadow.install(90);
        expect(backend.visibleIndex).toBe(90);
        expect(backend.durableIndex).toBe(90);
        expect(rowsOf(backend, "key")).toEqual(["61=31", "62=32"]);
        expect(textsOf(backend, "meta")).toEqual(["m"]);
        expect(textsOf(backend, "lease")).toEqual([]);
        backend.apply(91, (writer) => writer.put("key", utf8("c"), EMPTY));
        expect(textsOf(backend, "key")).toEqual(["a", "b", "c"]);
      });

      test("readers see a shadow's content from the moment on at which `switched` is called", async () => {
        const backend = await start();
        putAll(backend, "key", ["old"]);
        const shadow = backend.shadow();
        shadow.apply((writer) => writer.put("key", utf8("new"), EMPTY));
        const seen: unknown[] = [];
        const installed = shadow.install(90, () => {
          seen.push(textsOf(backend, "key"), backend.visibleIndex);
        });
        while (seen.length === 0) {
          expect(textsOf(backend, "key")).toEqual(["old"]);
          await Promise.race([installed, new Promise((resolve) => setImmediate(resolve))]);
        }
        expect(seen).toEqual([["new"], 90]);
        await installed;
      });

      test("a discarded shadow leaves nothing, and another one starts empty", async () => {
        const backend = await start();
        putAll(backend, "key", ["old"]);
        const first = backend.shadow();
        first.apply((writer) => writer.put("key", utf8("discarded"), EMPTY));
        await first.discard();
        expect(textsOf(backend, "key")).toEqual(["old"]);
        const second = backend.shadow();
        second.apply((writer) => writer.put("key", utf8("kept"), EMPTY));
        await second.install(9);
        expect(textsOf(backend, "key")).toEqual(["kept"]);
      });

      test("a pin outlives the install of a shadow, or says that it can't", async () => {
        const backend = await start();
        putAll(backend, "key", ["old"]);
        const pin = backend.pin();
        const shadow = backend.shadow();
        shadow.apply((writer) => writer.put("key", utf8("new"), EMPTY));
        await shadow.install(3);
        let seen: string[] | undefined;
        try {
          seen = textsOf(pin, "key");
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
        if (seen !== undefined) expect(seen).toEqual(["old"]);
        pin.release();
        expect(textsOf(backend, "key")).toEqual(["new"]);
      });
    });

    test("sizes grow with rows, and what is in use is part of the total", async () => {
      const backend = await start();
      backend.apply(1, (writer) => {
        for (let at = 0; at < 100; at += 1) {
          writer.put("key", utf8(`k${at}`), new Uint8Array(10_000));
        }
      });
      backend.flush();
      await expect.poll(() => backend.durableIndex, { interval: 1 }).toBe(1);
      const { totalBytes, inUseBytes } = backend.sizes();
      expect(inUseBytes).toBeGreaterThanOrEqual(1_000_000);
      expect(totalBytes).toBeGreaterThanOrEqual(inUseBytes);
    });

    test("a closed store refuses every call", async () => {
      const backend = await start();
      putAll(backend, "key", ["a"]);
      await backend.close();
      expect(() => backend.get("key", utf8("a"))).toThrow(BackendError);
      expect(() => backend.apply(2, () => {})).toThrow(BackendError);
      current = undefined;
    });

    test("random writes and reads agree with a sorted array", { timeout: 30_000 }, async () => {
      const seed = Number(process.env["SEED"] ?? 0x5eed);
      const replay = `seed ${seed}; replay: SEED=${seed} npx vitest run --project unit -t sorted`;
      const backend = await start();
      await randomRun(backend, new Prng(seed), replay);
    });

    test("a reopened store has everything, with its index", async ({ skip }) => {
      const backend = await start();
      if (opened?.reopen === undefined) skip("this backend does not outlive its process");
      putAll(backend, "key", ["a", "b"]);
      backend.apply(12, (writer) => {
        writer.put("auth", longKey(5000, 7), EMPTY);
        writer.delete("key", utf8("a"));
      });
      const again = await restart();
      expect(again.visibleIndex).toBe(12);
      expect(again.durableIndex).toBe(12);
      expect(textsOf(again, "key")).toEqual(["b"]);
      expect(again.get("auth", longKey(5000, 7))).toEqual(EMPTY);
    });

    test("an installed shadow outlives the process, an abandoned one doesn't", async ({ skip }) => {
      const backend = await start();
      if (opened?.reopen === undefined) skip("this backend does not outlive its process");
      const shadow = backend.shadow();
      shadow.apply((writer) => writer.put("key", utf8("installed"), EMPTY));
      await shadow.install(40);
      backend.shadow().apply((writer) => writer.put("key", utf8("abandoned"), EMPTY));
      const again = await restart();
      expect(again.visibleIndex).toBe(40);
      expect(textsOf(again, "key")).toEqual(["installed"]);
      const next = again.shadow();
      next.apply((writer) => writer.put("key", utf8("third"), EMPTY));
      await next.install(41);
      expect(textsOf(again, "key")).toEqual(["third"]);
    });
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
