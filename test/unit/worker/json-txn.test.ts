/** worker/json-txn: what a transaction's JSON may hold, and how a mistake is named. */
import { expect, test } from "vitest";
import { utf8 } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import { transactionOf } from "../../../worker/json-txn.ts";
import { HttpError } from "../../../worker/problem.ts";

test("conditions, operations and nested transactions in every form", () => {
  const transaction = transactionOf(
    {
      if: [
        { key: "k", target: "mod", value: 5 },
        { key: "k", target: "lease", is: "!=", value: "9223372036854775807" },
        { keyBase64: "/w==", target: "value", is: "<", value: "v" },
      ],
      do: [{ put: { key: "k", valueBase64: "AA==", lease: "7" } }],
      else: [
        { get: { prefix: "a/", limit: 3 } },
        { delete: { from: "a", to: "b", previous: true } },
        { txn: { do: [{ get: { all: true } }] } },
      ],
    },
    "utf8",
  );
  expect(transaction.if).toMatchObject([
    { target: "mod", sign: "=", operand: 5 },
    { target: "lease", sign: "!=", operand: 2n ** 63n - 1n },
    { key: Uint8Array.of(0xff), target: "value", sign: "<", operand: utf8("v") },
  ]);
  expect(transaction.do).toMatchObject([
    { kind: "put", key: utf8("k"), value: Uint8Array.of(0), options: { lease: 7n } },
  ]);
  expect(transaction.else).toMatchObject([
    { kind: "get", selector: { prefix: utf8("a/") }, options: { limit: 3 } },
    { kind: "remove", selector: { from: utf8("a"), to: utf8("b") }, previous: true },
    { kind: "txn", txn: { do: [{ kind: "get", selector: { all: true } }] } },
  ]);
});

test("then is another word for do", () => {
  const body = JSON.parse('{ "then": [{ "get": { "key": "k" } }] }') as object;
  expect(transactionOf(body, "utf8").do).toMatchObject([{ kind: "get", selector: utf8("k") }]);
});

test("in base64, all keys and values are", () => {
  const [operation] =
    transactionOf({ do: [{ put: { key: "/w==", value: "" } }] }, "base64").do ?? [];
  expect(operation).toMatchObject({ key: Uint8Array.of(0xff), value: utf8("") });
});

test.each([
  [[], "the body is no JSON object"],
  [{ when: [] }, "the body.when is not known here"],
  [{ if: {} }, "if is no JSON array"],
  [{ if: [{ key: "k", target: "size", value: 1 }] }, "if[0].target is one of"],
  [{ if: [{ key: "k", target: "mod", is: "~", value: 1 }] }, "if[0].is is one of"],
  [{ if: [{ key: "k", target: "mod", value: 1.5 }] }, "if[0].value is a whole number"],
  [{ if: [{ target: "mod", value: 1 }] }, "if[0].key is missing"],
  [{ do: [{}] }, "do[0] holds exactly one of"],
  [{ do: [{ put: { key: "k" } }] }, "do[0].put.value is missing"],
  [{ do: [{ put: { key: 1, value: "v" } }] }, "do[0].put.key is no text"],
  [{ do: [{ put: { key: "k", value: "v", lease: 7 } }] }, "lease id as decimal text"],
  [{ do: [{ put: { key: "k", keyBase64: "aw==", value: "v" } }] }, "give one"],
  [{ do: [{ get: { key: "k", prefix: "k" } }] }, "do[0].get names one of"],
  [{ do: [{ get: { key: "k", limit: -1 } }] }, "do[0].get.limit is no whole number"],
  [{ do: [{ delete: { to: "b", all: true } }] }, "do[0].delete.to needs from"],
  [JSON.parse('{ "do": [], "then": [] }') as object, "which mean the same"],
])("%j is refused by its path", (body, text) => {
  expect(() => transactionOf(body, "utf8")).toThrow(HttpError);
  expect(() => transactionOf(body, "utf8")).toThrow(text);
});

test("nesting beyond the limit is refused, not followed", () => {
  let body: object = {};
  for (let depth = 0; depth <= LIMITS.txnDepthMax; depth += 1) body = { do: [{ txn: body }] };
  expect(() => transactionOf(body, "utf8")).toThrow("nest too deeply");
});
