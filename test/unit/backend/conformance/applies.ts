/** Promises of a backend: batches and their indexes, and stores that are over. */
import { describe, expect, test } from "vitest";
import { BackendError } from "../../../../shared/backend/backend.ts";
import { EMPTY, utf8 } from "../../../../shared/base/bytes.ts";
import { putAll, textsOf } from "./store-under-test.ts";
import type { StoreUnderTest } from "./store-under-test.ts";

export function applies(store: StoreUnderTest): void {
  describe("apply", () => {
    test("fill reads what it wrote, in both directions", async () => {
      const backend = await store.start();
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
      const backend = await store.start();
      backend.apply(5, (writer) => writer.put("key", utf8("a"), EMPTY));
      backend.apply(5, (writer) => writer.delete("key", utf8("a")));
      expect(backend.visibleIndex).toBe(5);
      backend.apply(6, () => {});
      expect(backend.visibleIndex).toBe(6);
      expect(() => backend.apply(5, () => {})).toThrow("5");
      expect(backend.visibleIndex).toBe(6);
    });

    test("a fill that throws makes the store unusable", async () => {
      const backend = await store.start();
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
      store.abandon();
      await backend.close().catch(() => {});
    });

    test("durableIndex follows a flush and never passes visibleIndex", async () => {
      const backend = await store.start();
      for (let index = 1; index <= 50; index += 1) {
        backend.apply(index, (writer) => writer.put("key", utf8(`k${index}`), EMPTY));
        expect(backend.durableIndex).toBeLessThanOrEqual(index);
      }
      backend.flush();
      await expect.poll(() => backend.durableIndex, { interval: 1 }).toBe(50);
    });
  });

  test("a closed store refuses every call", async () => {
    const backend = await store.start();
    putAll(backend, "key", ["a"]);
    await backend.close();
    expect(() => backend.get("key", utf8("a"))).toThrow(BackendError);
    expect(() => backend.apply(2, () => {})).toThrow(BackendError);
    store.abandon();
  });
}
