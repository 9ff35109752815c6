/** What a benchmark writes replaces its own part of the results, and nothing else. */
import { expect, test } from "vitest";
import { replaceSection } from "../../bench/results-file.ts";

const TEXT = `words
<!-- begin: one -->

old

<!-- end: one -->
more words
<!-- begin: two -->
<!-- end: two -->
`;

test("a command's part is replaced, whatever it held, and the words around it stay", () => {
  const once = replaceSection(TEXT, "one", "new");
  expect(once).toBe(TEXT.replace("old", "new"));
  expect(replaceSection(once, "one", "new")).toBe(once);
  expect(replaceSection(TEXT, "two", "table")).toContain(
    "<!-- begin: two -->\n\ntable\n\n<!-- end: two -->",
  );
});

test("a command without a part is an error, not lost figures", () => {
  expect(() => replaceSection(TEXT, "three", "new")).toThrow('"three"');
});
