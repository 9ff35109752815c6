/** Whole numbers of JSON beyond what JavaScript's numbers hold. */
import { expect, test } from "vitest";
import { parseExactJson } from "../../../shared/base/exact-json.ts";

test("whole numbers past the safe range are their digits; all else is as JSON.parse has it", () => {
  const text =
    '{"ID": 18446744073709551615, "TTL": -9223372036854775808, "list": [9007199254740993, 7], ' +
    '"text": "18446744073709551615", "float": 0.1234567890123456, "large": 1e300, ' +
    '"safe": 9007199254740991}';
  expect(parseExactJson(text)).toEqual({
    ID: "18446744073709551615",
    TTL: "-9223372036854775808",
    list: ["9007199254740993", 7],
    text: "18446744073709551615",
    float: 0.1234567890123456,
    large: 1e300,
    safe: 9007199254740991,
  });
  expect(parseExactJson('{"a": [1, null, true]}')).toEqual({ a: [1, null, true] });
  expect(() => parseExactJson('{"ID": 18446744073709551615')).toThrow(SyntaxError);
});
