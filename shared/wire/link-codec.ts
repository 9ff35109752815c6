/**
 * Byte layout of the link's frames, version `LINK_VERSION`. A batch is one CBOR array of frames; a
 * frame is an array whose first item is its kind. Items past the known ones are ignored, so that a
 * frame can grow at its end.
 *
 * From the caller's side:
 *   hello          [0, version, role, token]
 *   call           [1, id, timeout, flags, method, ..., identity]
 *   cancel         [2, id]
 *   watchOpen      [3, stream, flags]
 *   watchCreate    [4, stream, key, rangeEnd, start, flags, watchId]
 *   watchCancel    [5, stream, watchId]
 *   watchProgress  [6, stream]
 *   watchClose     [7, stream]
 * From the peer's side:
 *   welcome        [16, version, clusterId, memberId, appliedIndex]
 *   result         [17, id, method, revision, term, ...]
 *   error          [18, id, failure]
 *   watchResponse  [19, stream, revision, term, watchId, flags, compactRevision, reason, [event...]]
 *   watchEnd       [20, stream, failure]
 *   bye            [21, failure]
 *
 * Flags of a call: 1 requireLeader, 2 serializable (range, txn), linearizable (memberList),
 * physical (compact) or keys (leaseTimeToLive), 8 the operation is followed by the freshness that a
 * serializable range demands [revision, milliseconds|null], 4 the last item is a write's identity
 * [client, sequence, floor]. Of watchCreate: 1 progressNotify, 2 noPut, 4 noDelete, 8 previousKv, 16
 * fragment. Of watchResponse: 1 created, 2 canceled, 4 fragment.
 */
import { concatBytes } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { assert } from "../base/assert.ts";
import * as LIMITS from "../base/link-limits.ts";
import { WireError, decodeCbor, encodeCbor } from "./cbor.ts";
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
import { LINK_METHODS, answerOf, encodeAnswer } from "./link-answers.ts";
import type { WriteIdentity } from "./command.ts";
import { encodeEvent, encodeFailure, encodeOp, eventOf, failureOf, opOf } from "./link-values.ts";
import type {
  Freshness,
  LinkCallFrame,
  LinkEvent,
  LinkMethod,
  LinkReplyFrame,
  LinkRequest,
  LinkRole,
  LinkWatchCreate,
  LinkWatchResponse,
} from "./link.ts";

const ROLES: readonly LinkRole[] = ["client", "edge"];

/** One batch from frames that are encoded already. */
export function joinFrames(frames: readonly Bytes[]): Bytes {
  const header = encodeCbor(frames.length);
  header[0] = (header[0] as number) | 0x80;
  return concatBytes(header, ...frames);
}

/** Several batches as one, for carriers that take one answer. */
export function joinBatches(batches: readonly Bytes[]): Bytes {
  const [only] = batches;
  if (batches.length === 1 && only !== undefined) return only;
  return joinFrames(batches.flatMap((batch) => listOf(decodeCbor(batch), "batch").map(encodeCbor)));
}

export function encodeCallFrame(frame: LinkCallFrame): Bytes {
  switch (frame.kind) {
    case "hello":
      return encodeCbor([0, frame.version, ROLES.indexOf(frame.role), frame.token]);
    case "call":
      return encodeCbor([
        1,
        frame.id,
        frame.timeoutMilliseconds,
        ...callItems(frame),
        ...identityItems(frame.identity),
      ]);
    case "cancel":
      return encodeCbor([2, frame.id]);
    case "watchOpen":
      return encodeCbor([3, frame.stream, frame.requireLeader ? 1 : 0]);
    case "watchCreate":
      return encodeCbor([4, frame.stream, ...createItems(frame.create)]);
    case "watchCancel":
      return encodeCbor([5, frame.stream, encodeInt64(frame.watchId)]);
    case "watchProgress":
      return encodeCbor([6, frame.stream]);
    case "watchClose":
      return encodeCbor([7, frame.stream]);
  }
}

function callItems(frame: LinkCallFrame & { kind: "call" }): unknown[] {
  const { request } = frame;
  const method = LINK_METHODS.indexOf(request.method);
  const flags =
    (frame.requireLeader ? 1 : 0) |
    (methodFlag(request) ? 2 : 0) |
    (request.method === "range" && request.fresh !== undefined ? 8 : 0) |
    (frame.identity === undefined ? 0 : 4);
  switch (request.method) {
    case "range":
      return [flags, method, encodeOp(request.op), ...freshItems(request.fresh)];
    case "put":
    case "deleteRange":
    case "txn":
      return [flags, method, encodeOp(request.op)];
    case "compact":
      return [flags, method, request.revision];
    case "leaseGrant":
      return [flags, method, encodeInt64(request.id), encodeInt64(request.ttlSeconds)];
    case "leaseRevoke":
    case "leaseTimeToLive":
      return [flags, method, encodeInt64(request.id)];
    case "leaseKeepAlive":
      return [flags, method, request.ids.map(encodeInt64)];
    case "leases":
    case "memberList":
    case "status":
      return [flags, method];
  }
}

function freshItems(fresh: Freshness | undefined): unknown[] {
  if (fresh === undefined) return [];
  return [[fresh.atLeastRevision ?? 0, fresh.maxAgeMilliseconds ?? null]];
}

function freshOf(value: unknown): Freshness {
  const [revision, age] = listOf(value, "freshness");
  const atLeastRevision = countOf(revision, "freshness' revision");
  if (age === null || age === undefined) return { atLeastRevision };
  return { atLeastRevision, maxAgeMilliseconds: countOf(age, "freshness' age") };
}

function identityItems(identity: WriteIdentity | undefined): unknown[] {
  return identity === undefined ? [] : [[identity.client, identity.sequence, identity.floor]];
}

function identityOf(fields: Fields): WriteIdentity {
  const items = listOf(fields.at(-1), "identity");
  const client = bytesOf(items[0], "identity's client");
  if (client.length === 0 || client.length > LIMITS.dedupClientBytesMax) {
    throw new WireError(`a client's id has 1 to ${LIMITS.dedupClientBytesMax} bytes`);
  }
  const sequence = countOf(items[1], "identity's sequence");
  return { client, sequence, floor: countOf(items[2], "identity's floor") };
}

function methodFlag(request: LinkRequest): boolean {
  switch (request.method) {
    case "range":
    case "txn":
      return request.serializable;
    case "memberList":
      return request.linearizable;
    case "compact":
      return request.physical;
    case "leaseTimeToLive":
      return request.keys;
    default:
      return false;
  }
}

function createItems(create: LinkWatchCreate): unknown[] {
  const flags =
    (create.progressNotify ? 1 : 0) |
    (create.noPut ? 2 : 0) |
    (create.noDelete ? 4 : 0) |
    (create.previousKv ? 8 : 0) |
    (create.fragment ? 16 : 0);
  return [create.key, create.rangeEnd, create.startRevision, flags, encodeInt64(create.watchId)];
}

/** The frames of a batch from a caller; throws `WireError`. */
export function decodeCallBatch(bytes: Bytes): LinkCallFrame[] {
  return listOf(decodeCbor(bytes), "batch").map(callFrameOf);
}

function callFrameOf(value: unknown): LinkCallFrame {
  const fields = listOf(value, "frame");
  const kind = countOf(fields[0], "frame's kind");
  const number = countOf(fields[1], "second item");
  switch (kind) {
    case 0:
      return {
        kind: "hello",
        version: number,
        role: nameOf(fields[2], ROLES, "role"),
        token: textOfField(fields[3], "token"),
      };
    case 1: {
      const flags = countOf(fields[3], "flags");
      return {
        kind: "call",
        id: number,
        timeoutMilliseconds: countOf(fields[2], "timeout"),
        requireLeader: (flags & 1) !== 0,
        request: requestOf(fields),
        ...((flags & 4) === 0 ? {} : { identity: identityOf(fields) }),
      };
    }
    case 2:
      return { kind: "cancel", id: number };
    case 3:
      return {
        kind: "watchOpen",
        stream: number,
        requireLeader: (countOf(fields[2], "flags") & 1) !== 0,
      };
    case 4:
      return { kind: "watchCreate", stream: number, create: createOf(fields) };
    case 5:
      return { kind: "watchCancel", stream: number, watchId: int64Of(fields[2], "watchId") };
    case 6:
      return { kind: "watchProgress", stream: number };
    case 7:
      return { kind: "watchClose", stream: number };
    default:
      throw new WireError(`frame kind ${kind} is not known`);
  }
}

function requestOf(fields: Fields): LinkRequest {
  const flags = countOf(fields[3], "flags");
  const flag = (flags & 2) !== 0;
  const method: LinkMethod = nameOf(fields[4], LINK_METHODS, "method");
  const item = fields[5];
  switch (method) {
    case "range": {
      const request = operationOf(method, item, flag);
      if (request.method !== "range" || (flags & 8) === 0) return request;
      return { ...request, fresh: freshOf(fields[6]) };
    }
    case "put":
    case "deleteRange":
    case "txn":
      return operationOf(method, item, flag);
    case "compact":
      return { method, revision: integerOf(item, "revision"), physical: flag };
    case "leaseGrant":
      return {
        method,
        id: int64Of(item, "lease id"),
        ttlSeconds: int64Of(fields[6], "ttlSeconds"),
      };
    case "leaseRevoke":
      return { method, id: int64Of(item, "lease id") };
    case "leaseKeepAlive":
      return { method, ids: listOf(item, "lease ids").map((id) => int64Of(id, "lease id")) };
    case "leaseTimeToLive":
      return { method, id: int64Of(item, "lease id"), keys: flag };
    case "memberList":
      return { method, linearizable: flag };
    case "leases":
    case "status":
      return { method };
  }
}

function operationOf(
  method: "range" | "put" | "deleteRange" | "txn",
  item: unknown,
  serializable: boolean,
): LinkRequest {
  const op = opOf(item);
  if (op.kind === "range" && method === "range") return { method, op, serializable };
  if (op.kind === "txn" && method === "txn") return { method, op, serializable };
  if (op.kind === "put" && method === "put") return { method, op };
  if (op.kind === "deleteRange" && method === "deleteRange") return { method, op };
  throw new WireError(`method ${method} carries a ${op.kind} operation`);
}

function createOf(fields: Fields): LinkWatchCreate {
  const flags = countOf(fields[5], "watch flags");
  return {
    key: bytesOf(fields[2], "key"),
    rangeEnd: bytesOf(fields[3], "rangeEnd"),
    startRevision: integerOf(fields[4], "startRevision"),
    progressNotify: (flags & 1) !== 0,
    noPut: (flags & 2) !== 0,
    noDelete: (flags & 4) !== 0,
    previousKv: (flags & 8) !== 0,
    fragment: (flags & 16) !== 0,
    watchId: int64Of(fields[6], "watchId"),
  };
}

export function encodeReplyFrame(frame: LinkReplyFrame): Bytes {
  switch (frame.kind) {
    case "welcome": {
      const { version, clusterId, memberId, appliedIndex } = frame;
      const ids = [encodeInt64(clusterId), encodeInt64(memberId)];
      return encodeCbor([16, version, ...ids, appliedIndex]);
    }
    case "result": {
      const { method, header } = frame.answer;
      const start = [17, frame.id, LINK_METHODS.indexOf(method), header.revision];
      return encodeCbor([...start, header.raftTerm, ...encodeAnswer(frame.answer)]);
    }
    case "error":
      return encodeCbor([18, frame.id, encodeFailure(frame.failure)]);
    case "watchResponse":
      return encodeWatchResponse(frame.stream, frame.response);
    case "watchEnd":
      return encodeCbor([20, frame.stream, encodeFailure(frame.failure)]);
    case "bye":
      return encodeCbor([21, encodeFailure(frame.failure)]);
  }
}

/**
 * A list of events as CBOR: the part of a watch response that is the same for all watchers, to be
 * kept and sent again.
 */
export function encodeEvents(events: readonly LinkEvent[]): Bytes {
  return encodeCbor(events.map(encodeEvent));
}

/** `events`: what `encodeEvents` made of the response's events, if it is at hand. */
export function encodeWatchResponse(
  stream: number,
  response: Omit<LinkWatchResponse, "events"> & { readonly events: readonly LinkEvent[] },
  events: Bytes = encodeEvents(response.events),
): Bytes {
  const flags =
    (response.created ? 1 : 0) | (response.canceled ? 2 : 0) | (response.fragment ? 4 : 0);
  const start = encodeCbor([
    19,
    stream,
    response.header.revision,
    response.header.raftTerm,
    encodeInt64(response.watchId),
    flags,
    response.compactRevision,
    response.cancelReason,
  ]);
  assert(start[0] === 0x88, "a watch response starts with eight items");
  start[0] = 0x89;
  return concatBytes(start, events.length === 0 ? Uint8Array.of(0x80) : events);
}

/** The frames of a batch from a peer; throws `WireError`. */
export function decodeReplyBatch(bytes: Bytes): LinkReplyFrame[] {
  return listOf(decodeCbor(bytes), "batch").map(replyFrameOf);
}

function replyFrameOf(value: unknown): LinkReplyFrame {
  const fields = listOf(value);
  const kind = countOf(fields[0]);
  switch (kind) {
    case 16:
      return {
        kind: "welcome",
        version: countOf(fields[1]),
        clusterId: uint64Of(fields[2]),
        memberId: uint64Of(fields[3]),
        appliedIndex: countOf(fields[4]),
      };
    case 17:
      return { kind: "result", id: countOf(fields[1]), answer: answerOf(fields.slice(2)) };
    case 18:
      return { kind: "error", id: countOf(fields[1]), failure: failureOf(fields[2]) };
    case 19: {
      const stream = countOf(fields[1]);
      return { kind: "watchResponse", stream, response: watchResponseOf(fields) };
    }
    case 20: {
      const stream = countOf(fields[1]);
      return { kind: "watchEnd", stream, failure: failureOf(fields[2]) };
    }
    case 21:
      return { kind: "bye", failure: failureOf(fields[1]) };
    default:
      throw new WireError(`frame kind ${kind} is not known`);
  }
}

function watchResponseOf(fields: Fields): LinkWatchResponse {
  const flags = countOf(fields[5]);
  return {
    header: {
      revision: countOf(fields[2]),
      raftTerm: countOf(fields[3]),
    },
    watchId: int64Of(fields[4]),
    created: (flags & 1) !== 0,
    canceled: (flags & 2) !== 0,
    fragment: (flags & 4) !== 0,
    compactRevision: integerOf(fields[6]),
    cancelReason: textOfField(fields[7]),
    events: listOf(fields[8]).map(eventOf),
  };
}
