/** Promises of a backend that outlives its process: what it holds when it is opened again. */
import { expect, test } from "vitest";
import { EMPTY, utf8 } from "../../../../shared/base/bytes.ts";
import { longKey, putAll, textsOf } from "./store-under-test.ts";
import type { StoreUnderTest } from "./store-under-test.ts";

export function durability(store: StoreUnderTest): void {
  test("a reopened store has everything, with its index", async ({ skip }) => {
    const backend = await store.start();
    if (!store.outlivesProcess) skip("this backend does not outlive its process");
    putAll(backend, "key", ["a", "b"]);
    backend.apply(12, (writer) => {
      writer.put("auth", longKey(5000, 7), EMPTY);
      writer.delete("key", utf8("a"));
    });
    const again = await store.restart();
    expect(again.visibleIndex).toBe(12);
    expect(again.durableIndex).toBe(12);
    expect(textsOf(again, "key")).toEqual(["b"]);
    expect(again.get("auth", longKey(5000, 7))).toEqual(EMPTY);
  });

  test("an installed shadow outlives the process, an abandoned one doesn't", async ({ skip }) => {
    const backend = await store.start();
    if (!store.outlivesProcess) skip("this backend does not outlive its process");
    const shadow = backend.shadow();
    shadow.apply((writer) => writer.put("key", utf8("installed"), EMPTY));
    await shadow.install(40);
    backend.shadow().apply((writer) => writer.put("key", utf8("abandoned"), EMPTY));
    const again = await store.restart();
    expect(again.visibleIndex).toBe(40);
    expect(textsOf(again, "key")).toEqual(["installed"]);
    const next = again.shadow();
    next.apply((writer) => writer.put("key", utf8("third"), EMPTY));
    await next.install(41);
    expect(textsOf(again, "key")).toEqual(["third"]);
  });
}
