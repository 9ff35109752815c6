/**
 * Permissions on etcd's JSON gateway: a request's JSON is read as the peers read it, admitted as
 * the link's request that it means, and written anew, so that what was checked is what is sent.
 * Calls that have no such form (members, alarms, etcd's own users) are an administrator's.
 */
import { create, fromJson, toJsonString } from "@bufbuild/protobuf";
import type { DescMessage, JsonValue, MessageShape } from "@bufbuild/protobuf";
import { rpcError } from "../../shared/api/errors.ts";
import {
  DeleteRangeRequestSchema,
  LeaseGrantRequestSchema,
  LeaseKeepAliveRequestSchema,
  LeaseRevokeRequestSchema,
  LeaseTimeToLiveRequestSchema,
  PutRequestSchema,
  RangeRequestSchema,
  TxnRequestSchema,
  WatchRequestSchema,
} from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { parseExactJson } from "../../shared/base/exact-json.ts";
import { deleteRangeOpOf, putOpOf, rangeOpOf, txnOpOf } from "../../shared/peer/proto/requests.ts";
import type { LinkRequest } from "../../shared/wire/link.ts";
import { HttpError } from "../problem.ts";
import { admit, admitWatch } from "./grant.ts";
import type { Grant } from "./grant.ts";

/** Checks one JSON message and answers it as it may be sent on. */
type Guard = (grant: Grant, text: string) => string;

function guard<Schema extends DescMessage>(
  schema: Schema,
  check: (grant: Grant, message: MessageShape<Schema>) => MessageShape<Schema>,
): Guard {
  return (grant, text) => {
    let message: MessageShape<Schema>;
    try {
      const json = text.trim() === "" ? {} : (parseExactJson(text) as JsonValue);
      // What a newer peer might know beside it is dropped: it could not be checked.
      message = fromJson(schema, json, { ignoreUnknownFields: true });
    } catch {
      throw new HttpError(400, "the body is no JSON message of this call");
    }
    return toJsonString(schema, check(grant, message));
  };
}

/** A guard whose message is sent as it is once the request that it means was admitted. */
function asRequest<Schema extends DescMessage>(
  schema: Schema,
  requestOf: (message: MessageShape<Schema>) => LinkRequest,
): Guard {
  return guard(schema, (grant, message) => {
    admit(grant, requestOf(message));
    return message;
  });
}

const revoke = asRequest(LeaseRevokeRequestSchema, ({ ID: id }) => ({ method: "leaseRevoke", id }));
const timeToLive = asRequest(LeaseTimeToLiveRequestSchema, ({ ID: id, keys }) => ({
  method: "leaseTimeToLive",
  id,
  keys,
}));

const GUARDS: Readonly<Record<string, Guard>> = {
  "kv/range": asRequest(RangeRequestSchema, (message) => ({
    method: "range",
    op: rangeOpOf(message),
    serializable: message.serializable,
  })),
  "kv/put": asRequest(PutRequestSchema, (message) => ({ method: "put", op: putOpOf(message) })),
  "kv/deleterange": asRequest(DeleteRangeRequestSchema, (message) => ({
    method: "deleteRange",
    op: deleteRangeOpOf(message),
  })),
  "kv/txn": asRequest(TxnRequestSchema, (message) => ({
    method: "txn",
    op: txnOpOf(message),
    serializable: false,
  })),
  "lease/grant": guard(LeaseGrantRequestSchema, (grant, { ID, TTL }) => {
    const admitted = admit(grant, { method: "leaseGrant", id: ID, ttlSeconds: TTL });
    const id = admitted.method === "leaseGrant" ? admitted.id : ID;
    return create(LeaseGrantRequestSchema, { ID: id, TTL });
  }),
  "lease/revoke": revoke,
  "kv/lease/revoke": revoke,
  "lease/timetolive": timeToLive,
  "kv/lease/timetolive": timeToLive,
  "lease/keepalive": asRequest(LeaseKeepAliveRequestSchema, ({ ID: id }) => ({
    method: "leaseKeepAlive",
    ids: [id],
  })),
  watch: guard(WatchRequestSchema, (grant, message) => {
    const { requestUnion } = message;
    if (requestUnion.case === "createRequest") admitWatch(grant, requestUnion.value);
    return message;
  }),
};

/** The message as it may be sent on; of a stream's path: each of its messages. */
export function admitGateway(grant: Grant, pathname: string, text: string): string {
  if (grant.admin) return text;
  const path = pathname.replace(/^\/v3\//, "");
  const check = Object.hasOwn(GUARDS, path) ? GUARDS[path] : undefined;
  if (check === undefined) throw rpcError("permissionDenied");
  return check(grant, text);
}
