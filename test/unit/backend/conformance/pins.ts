/** Promises of a backend: a pin is the state of its moment. */
import { describe, expect, test } from "vitest";
import { EMPTY, utf8 } from "../../../../shared/base/bytes.ts";
import { putAll, rowsOf, textsOf } from "./store-under-test.ts";
import type { StoreUnderTest } from "./store-under-test.ts";

export function pins(store: StoreUnderTest): void {
  describe("pins", () => {
    test("a pin is the state of its moment while writes go on", async () => {
      const backend = await store.start();
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
      const backend = await store.start();
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
}
