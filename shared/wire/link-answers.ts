/**
 * Byte layout of a method's answer: [id, method, revision, raftTerm, ...] after the frame's kind;
 * `link-codec.ts` has the frame around it. Methods are numbered by their place in `LINK_METHODS`,
 * which only grows at its end.
 */
import {
  bytesOf,
  countOf,
  encodeInt64,
  int64Of,
  integerOf,
  listOf,
  nameOf,
  textOfField,
  uint64Of,
} from "./cbor-fields.ts";
import type { Fields } from "./cbor-fields.ts";
import {
  encodeKeyValue,
  encodeOpResult,
  encodeRangeResult,
  keyValueOf,
  opResultOf,
  rangeResultOf,
} from "./link-values.ts";
import type { LinkAnswer, LinkHeader, LinkMember, LinkMethod } from "./link.ts";

export const LINK_METHODS = [
  "range",
  "put",
  "deleteRange",
  "txn",
  "compact",
  "leaseGrant",
  "leaseRevoke",
  "leaseKeepAlive",
  "leaseTimeToLive",
  "leases",
  "memberList",
  "status",
] as const satisfies readonly LinkMethod[];

const ids = (list: readonly bigint[]): unknown[] => list.map(encodeInt64);

/** The items after the header's. */
export function encodeAnswer(answer: LinkAnswer): unknown[] {
  switch (answer.method) {
    case "range":
      return [...encodeRangeResult(answer), ...ageItems(answer.ageMilliseconds)];
    case "put":
      return [answer.previous === undefined ? null : encodeKeyValue(answer.previous)];
    case "deleteRange":
      return [answer.deleted, answer.previous.map(encodeKeyValue)];
    case "txn":
      return [answer.succeeded, answer.results.map(encodeOpResult)];
    case "compact":
    case "leaseRevoke":
      return [];
    case "leaseGrant":
      return [encodeInt64(answer.id), answer.ttlSeconds];
    case "leaseKeepAlive":
      return [answer.ttlSeconds];
    case "leaseTimeToLive":
      return [answer.ttlSeconds, answer.grantedTtlSeconds, answer.keys];
    case "leases":
      return [ids(answer.ids)];
    case "memberList":
      return [answer.members.map(encodeMember)];
    case "status":
      return [
        encodeInt64(answer.leader),
        answer.raftIndex,
        answer.raftAppliedIndex,
        answer.dbSize,
        answer.dbSizeInUse,
        answer.dbSizeQuota,
        answer.isLearner,
        answer.errors,
      ];
  }
}

/** `fields`: [method, revision, raftTerm, ...answer]. */
export function answerOf(fields: Fields): LinkAnswer {
  const method = nameOf(fields[0], LINK_METHODS, "method");
  const header: LinkHeader = {
    revision: countOf(fields[1]),
    raftTerm: countOf(fields[2]),
  };
  switch (method) {
    case "range":
      return { method, header, ...rangeResultOf(fields, 3), ...ageOf(fields[6]) };
    case "put": {
      const previous = fields[3] === null ? undefined : keyValueOf(fields[3]);
      return { method, header, previous };
    }
    case "deleteRange": {
      const previous = listOf(fields[4]).map(keyValueOf);
      return { method, header, deleted: countOf(fields[3]), previous };
    }
    case "txn": {
      const results = listOf(fields[4]).map(opResultOf);
      return { method, header, succeeded: fields[3] === true, results };
    }
    case "compact":
    case "leaseRevoke":
      return { method, header };
    case "memberList":
      return { method, header, members: listOf(fields[3]).map(memberOf) };
    case "status":
      return statusOf(fields, header);
    default:
      return leaseAnswerOf(method, fields, header);
  }
}

/** Rounded up: an answer is never younger than it says. */
function ageItems(age: number | undefined): number[] {
  return age === undefined ? [] : [Math.ceil(age)];
}

function ageOf(value: unknown): { ageMilliseconds?: number } {
  return value === undefined ? {} : { ageMilliseconds: countOf(value) };
}

function leaseAnswerOf(
  method: "leaseGrant" | "leaseKeepAlive" | "leaseTimeToLive" | "leases",
  fields: Fields,
  header: LinkHeader,
): LinkAnswer {
  switch (method) {
    case "leaseGrant":
      return {
        method,
        header,
        id: int64Of(fields[3]),
        ttlSeconds: integerOf(fields[4]),
      };
    case "leaseKeepAlive":
      return {
        method,
        header,
        ttlSeconds: listOf(fields[3]).map((ttl) => integerOf(ttl)),
      };
    case "leaseTimeToLive":
      return {
        method,
        header,
        ttlSeconds: integerOf(fields[3]),
        grantedTtlSeconds: integerOf(fields[4]),
        keys: listOf(fields[5]).map((key) => bytesOf(key)),
      };
    case "leases":
      return { method, header, ids: listOf(fields[3]).map((id) => int64Of(id)) };
  }
}

function encodeMember(member: LinkMember): unknown[] {
  const { id, name, peerUrls, clientUrls, isLearner } = member;
  return [encodeInt64(id), name, peerUrls, clientUrls, isLearner];
}

function memberOf(value: unknown): LinkMember {
  const fields = listOf(value);
  const urls = (list: unknown): string[] => listOf(list).map((url) => textOfField(url));
  return {
    id: uint64Of(fields[0]),
    name: textOfField(fields[1]),
    peerUrls: urls(fields[2]),
    clientUrls: urls(fields[3]),
    isLearner: fields[4] === true,
  };
}

function statusOf(fields: Fields, header: LinkHeader): LinkAnswer {
  return {
    method: "status",
    header,
    leader: uint64Of(fields[3]),
    raftIndex: countOf(fields[4]),
    raftAppliedIndex: countOf(fields[5]),
    dbSize: countOf(fields[6]),
    dbSizeInUse: countOf(fields[7]),
    dbSizeQuota: integerOf(fields[8]),
    isLearner: fields[9] === true,
    errors: listOf(fields[10]).map((text) => textOfField(text)),
  };
}
