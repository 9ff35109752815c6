/** The memory backend: the common promises, and its twin of a disk. */
import { expect, test } from "vitest";
import { MemoryBackend } from "../../../shared/backend/memory-backend.ts";
import { EMPTY, utf8 } from "../../../shared/base/bytes.ts";
import { backendConformance } from "./conformance/conformance.ts";

backendConformance("memory", async () => ({ backend: new MemoryBackend() }));
backendConformance("memory, flushed by hand", async () => ({
  backend: new MemoryBackend({ durability: "flush" }),
}));

test("a crash leaves what was flushed, whole applies only", () => {
  const backend = new MemoryBackend({ durability: "flush" });
  backend.apply(1, (writer) => writer.put("key", utf8("a"), EMPTY));
  backend.flush();
  backend.apply(2, (writer) => writer.put("key", utf8("b"), EMPTY));
  expect(backend.durableIndex).toBe(1);
  const survivor = backend.crashed();
  expect(survivor.visibleIndex).toBe(1);
  expect(survivor.durableIndex).toBe(1);
  expect(survivor.get("key", utf8("a"))).toEqual(EMPTY);
  expect(survivor.get("key", utf8("b"))).toBeUndefined();
  expect(() => backend.get("key", utf8("a"))).toThrow("closed");
});

test("a crash loses nothing where every apply is durable", () => {
  const backend = new MemoryBackend();
  backend.apply(3, (writer) => writer.put("key", utf8("a"), EMPTY));
  expect(backend.crashed().get("key", utf8("a"))).toEqual(EMPTY);
});
