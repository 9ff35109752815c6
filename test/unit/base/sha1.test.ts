/** SHA-1 as Node has it, for all lengths around the borders of its blocks. */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { utf8 } from "../../../shared/base/bytes.ts";
import { sha1 } from "../../../shared/base/sha1.ts";

/** Around the lengths at which the padding takes another block. */
test.each([0, 1, 3, 54, 55, 56, 63, 64, 65, 119, 120, 1000])("%i bytes", (length) => {
  const input = utf8("http://127.0.0.1:2380".repeat(50)).subarray(0, length);
  expect(Buffer.from(sha1(input)).toString("hex")).toBe(
    createHash("sha1").update(input).digest("hex"),
  );
});
