/** Promises of a backend: a shadow replaces everything in one step. */
import { describe, expect, test } from "vitest";
import { EMPTY, utf8 } from "../../../../shared/base/bytes.ts";
import { putAll, rowsOf, textsOf } from "./store-under-test.ts";
import type { StoreUnderTest } from "./store-under-test.ts";

export function shadows(store: StoreUnderTest): void {
  describe("shadows", () => {
    test("an installed shadow replaces everything", async () => {
      const backend = await store.start();
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
      const backend = await store.start();
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
      const backend = await store.start();
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
      const backend = await store.start();
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
}
