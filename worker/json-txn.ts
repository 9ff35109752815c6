/**
 * A transaction as JSON, checked member by member; what is wrong is named by its path
 * (`do[0].put.key`).
 *
 *   { "if":   [{ "key": "k", "target": "mod", "is": "=", "value": 5 }],
 *     "do":   [{ "put": { "key": "k", "value": "v", "lease": "12" } }, { "get": { "key": "k" } }],
 *     "else": [{ "get": { "prefix": "a/", "limit": 10 } }, { "delete": { "key": "k" } }, { "txn": {...} }] }
 */
import { LIMITS } from "../shared/base/limits.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import type { Selector } from "../shared/client/keys.ts";
import { compare, get, put, remove } from "../shared/client/operations.ts";
import type {
  CompareSign,
  Condition,
  Operation,
  OperationResult,
  Transaction,
} from "../shared/client/operations.ts";
import { decodeBase64, decodeText } from "./encoding.ts";
import type { Encoding } from "./encoding.ts";
import { entryJson } from "./kv-routes.ts";
import { parseLease } from "./params.ts";
import { HttpError } from "./problem.ts";

type Members = Readonly<Record<string, unknown>>;

const TARGETS = ["version", "create", "mod", "value", "lease"] as const;
const SIGNS: readonly CompareSign[] = ["=", "!=", ">", "<"];

/** An object with no members but the known ones. */
export function membersOf(value: unknown, path: string, known: readonly string[]): Members {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new HttpError(400, `${path} is no JSON object`);
  }
  for (const name of Object.keys(value)) {
    if (!known.includes(name)) {
      throw new HttpError(400, `${path}.${name} is not known here: ${known.join(", ")}`);
    }
  }
  return value as Members;
}

function listAt(value: unknown, path: string): readonly unknown[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw new HttpError(400, `${path} is no JSON array`);
  return value as readonly unknown[];
}

/** `key`, in the request's encoding, or `keyBase64`. */
function bytesAt(members: Members, name: string, at: Place): Bytes | undefined {
  const text = members[name];
  const base64 = members[`${name}Base64`];
  if (text !== undefined && base64 !== undefined) {
    throw new HttpError(400, `${at.path} has ${name} and ${name}Base64: give one`);
  }
  const given = text ?? base64;
  if (given === undefined) return undefined;
  if (typeof given !== "string") throw new HttpError(400, `${at.path}.${name} is no text`);
  const path = `${at.path}.${name}`;
  return text === undefined ? decodeBase64(given, path) : decodeText(given, at.encoding, path);
}

function requiredBytes(members: Members, name: string, at: Place): Bytes {
  const bytes = bytesAt(members, name, at);
  if (bytes === undefined) throw new HttpError(400, `${at.path}.${name} is missing`);
  return bytes;
}

function booleanAt(members: Members, name: string, path: string): boolean {
  const value = members[name] ?? false;
  if (typeof value !== "boolean") throw new HttpError(400, `${path}.${name} is no boolean`);
  return value;
}

function countAt(members: Members, name: string, path: string): number | undefined {
  const value = members[name];
  if (value === undefined) return undefined;
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw new HttpError(400, `${path}.${name} is no whole number from 0 on`);
  }
  return value;
}

interface Place {
  readonly path: string;
  readonly encoding: Encoding;
}

const bothForms = (...names: string[]): string[] =>
  names.flatMap((name) => [name, `${name}Base64`]);

export function transactionOf(value: unknown, encoding: Encoding): Transaction<Bytes> {
  return txnAt(value, { path: "the body", encoding }, 0);
}

function txnAt(value: unknown, at: Place, depth: number): Transaction<Bytes> {
  if (depth >= LIMITS.txnDepthMax) throw new HttpError(400, "transactions nest too deeply");
  const members = membersOf(value, at.path, ["if", "do", "then", "else"]);
  if (members["do"] !== undefined && members["then"] !== undefined) {
    throw new HttpError(400, `${at.path} has do and then, which mean the same: give one`);
  }
  const branch = (list: unknown, name: string): Operation<Bytes>[] =>
    listAt(list, name).map((each, position) =>
      operationAt(each, { path: `${name}[${position}]`, encoding: at.encoding }, depth),
    );
  return {
    if: listAt(members["if"], "if").map((each, position) =>
      conditionAt(each, { path: `if[${position}]`, encoding: at.encoding }),
    ),
    do: branch(members["do"] ?? members["then"], "do"),
    else: branch(members["else"], "else"),
  };
}

function conditionAt(value: unknown, at: Place): Condition {
  const known = ["target", "is", ...bothForms("key", "value")];
  const members = membersOf(value, at.path, known);
  const target = TARGETS.find((each) => each === members["target"]);
  if (target === undefined) {
    throw new HttpError(400, `${at.path}.target is one of: ${TARGETS.join(", ")}`);
  }
  const sign = SIGNS.find((each) => each === (members["is"] ?? "="));
  if (sign === undefined) throw new HttpError(400, `${at.path}.is is one of: ${SIGNS.join(", ")}`);
  const key = requiredBytes(members, "key", at);
  if (target === "value") return compare(key, target, sign, requiredBytes(members, "value", at));
  const operand = members["value"];
  if (typeof operand === "number" && Number.isSafeInteger(operand)) {
    return compare(key, target, sign, operand);
  }
  if (typeof operand === "string") return compare(key, target, sign, parseLease(operand));
  throw new HttpError(400, `${at.path}.value is a whole number, or its decimal text`);
}

function operationAt(value: unknown, at: Place, depth: number): Operation<Bytes> {
  const kinds = ["put", "get", "delete", "txn"] as const;
  const members = membersOf(value, at.path, kinds);
  const [kind, ...others] = kinds.filter((each) => members[each] !== undefined);
  if (kind === undefined || others.length > 0) {
    throw new HttpError(400, `${at.path} holds exactly one of: ${kinds.join(", ")}`);
  }
  const inner: Place = { path: `${at.path}.${kind}`, encoding: at.encoding };
  switch (kind) {
    case "put":
      return putAt(members[kind], inner);
    case "get":
      return getAt(members[kind], inner);
    case "delete": {
      const known = ["all", "previous", ...bothForms("key", "prefix", "from", "to")];
      const fields = membersOf(members[kind], inner.path, known);
      const previous = booleanAt(fields, "previous", inner.path);
      return remove(selectorAt(fields, inner), { previous });
    }
    case "txn":
      return { kind: "txn", txn: txnAt(members[kind], inner, depth + 1) };
  }
}

function putAt(value: unknown, at: Place): Operation<Bytes> {
  const known = ["lease", "previous", ...bothForms("key", "value")];
  const members = membersOf(value, at.path, known);
  const lease = members["lease"];
  if (lease !== undefined && typeof lease !== "string") {
    throw new HttpError(400, `${at.path}.lease is a lease id as decimal text`);
  }
  return put(requiredBytes(members, "key", at), requiredBytes(members, "value", at), {
    lease: lease === undefined ? undefined : parseLease(lease),
    previous: booleanAt(members, "previous", at.path),
  });
}

function getAt(value: unknown, at: Place): Operation<Bytes> {
  const known = ["all", "limit", "revision", "keysOnly", "countOnly"];
  const members = membersOf(value, at.path, [
    ...known,
    ...bothForms("key", "prefix", "from", "to"),
  ]);
  return get(selectorAt(members, at), {
    limit: countAt(members, "limit", at.path) ?? LIMITS.edgePageKeys,
    revision: countAt(members, "revision", at.path),
    keysOnly: booleanAt(members, "keysOnly", at.path),
    countOnly: booleanAt(members, "countOnly", at.path),
  });
}

function selectorAt(members: Members, at: Place): Selector {
  const key = bytesAt(members, "key", at);
  const prefix = bytesAt(members, "prefix", at);
  const from = bytesAt(members, "from", at);
  const to = bytesAt(members, "to", at);
  const all = booleanAt(members, "all", at.path);
  const named = [key !== undefined, prefix !== undefined, from !== undefined, all];
  if (named.filter(Boolean).length !== 1) {
    throw new HttpError(400, `${at.path} names one of: key, prefix, from (with to), all`);
  }
  if (to !== undefined && from === undefined) throw new HttpError(400, `${at.path}.to needs from`);
  if (key !== undefined) return key;
  if (prefix !== undefined) return { prefix };
  return from === undefined ? { all: true } : { from, to };
}

/** A transaction's results, each under the name of its operation. */
export function resultJson(result: OperationResult<Bytes>, encoding: Encoding): object {
  switch (result.kind) {
    case "put": {
      const { previous } = result;
      return { put: previous === undefined ? {} : { previous: entryJson(previous, encoding) } };
    }
    case "get": {
      const { entries, count, more } = result;
      return { get: { kvs: entries.map((entry) => entryJson(entry, encoding)), count, more } };
    }
    case "remove": {
      const previous = result.previous.map((entry) => entryJson(entry, encoding));
      return { delete: { deleted: result.removed, ...(previous.length > 0 ? { previous } : {}) } };
    }
    case "txn": {
      const results = result.results.map((each) => resultJson(each, encoding));
      return { txn: { succeeded: result.succeeded, results } };
    }
  }
}
