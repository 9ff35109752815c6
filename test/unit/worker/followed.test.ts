/** Which ranges replicas follow: their names, what they cover, and what becomes of one that doesn't answer. */
import { describe, expect, test } from "vitest";
import { EMPTY, prefixEnd, utf8 } from "../../../shared/base/bytes.ts";
import { OPEN_END } from "../../../shared/mvcc/types.ts";
import {
  FollowedRanges,
  partsOfName,
  replicaNameOf,
  spanOf,
} from "../../../worker/replica/followed.ts";

const HOW = { cluster: "c", waitMilliseconds: 1000, shard: 0 };
const prefixSpan = (text: string) => ({
  key: utf8(text),
  rangeEnd: prefixEnd(utf8(text)) ?? EMPTY,
});

function nameFor(names: readonly string[], span: { key: Uint8Array; rangeEnd: Uint8Array }) {
  const url = new FollowedRanges(names, HOW).urlFor(span, "weur");
  return url === undefined ? undefined : replicaNameOf(`${url}/link`);
}

describe("a followed range", () => {
  test("covers its keys and what lies within it, and nothing wider", () => {
    const names = ["a/", "b/"];
    expect(nameFor(names, { key: utf8("a/1"), rangeEnd: EMPTY })).toBe("replica:c:weur:a/");
    expect(nameFor(names, prefixSpan("b/x"))).toBe("replica:c:weur:b/");
    expect(nameFor(names, { key: utf8("a"), rangeEnd: EMPTY })).toBeUndefined();
    expect(nameFor(names, prefixSpan("a"))).toBeUndefined();
    expect(nameFor(names, { key: utf8("a/"), rangeEnd: utf8("b/z") })).toBeUndefined();
    expect(nameFor(names, { key: utf8("a/"), rangeEnd: OPEN_END })).toBeUndefined();
  });

  test("of everything covers everything", () => {
    for (const span of [prefixSpan("x"), { key: utf8("k"), rangeEnd: OPEN_END }]) {
      expect(nameFor(["*"], span)).toBe("replica:c:weur:*");
    }
    expect(spanOf("*")).toEqual({ key: Uint8Array.of(0), rangeEnd: OPEN_END });
  });

  test("is named as it is written, with commas, colons and bytes percent-encoded or not", () => {
    const name = nameFor(["a%2Cb:c"], prefixSpan("a,b:c/1"));
    expect(name).toBe("replica:c:weur:a%2Cb:c");
    expect(partsOfName(name ?? "")).toEqual({ hint: "weur", range: "a%2Cb:c" });
    expect(spanOf("a%2Cb:c")).toEqual(prefixSpan("a,b:c"));
    expect(spanOf("%FF")).toEqual({ key: Uint8Array.of(255), rangeEnd: OPEN_END });
    expect(partsOfName("leases:0")).toBeUndefined();
    expect(replicaNameOf("http://127.0.0.1:2379/link")).toBeUndefined();
  });

  test("has several replicas where one is too few, each at the same place", () => {
    const followed = new FollowedRanges(["a/"], { ...HOW, shard: 2 });
    const name = replicaNameOf(`${followed.urlFor(prefixSpan("a/"), "weur")}/link`);
    expect(name).toBe("replica:c:weur.2:a/");
    expect(partsOfName(name ?? "")).toEqual({ hint: "weur", range: "a/" });
    expect(partsOfName("replica:c:.2:a/")).toEqual({ hint: "", range: "a/" });
  });

  test("that names no prefix is refused", () => {
    for (const wrong of ["", "%", "%zz"]) {
      expect(() => new FollowedRanges([wrong], HOW)).toThrow(TypeError);
    }
  });

  test("whose replica didn't answer is passed over for a while, the others are not", () => {
    const followed = new FollowedRanges(["a/", "b/"], HOW);
    const [a = "", b = ""] = ["a/", "b/"].map((text) => followed.urlFor(prefixSpan(text), ""));
    followed.rest(a, 100);
    expect([followed.isResting(a, 99), followed.isResting(b, 99)]).toEqual([true, false]);
    expect(followed.isResting(a, 100)).toBe(false);
  });
});
