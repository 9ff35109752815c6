/**
 * POST /quorate/members: several changes of the members as one, by joint consensus. Etcd's API has no
 * call for it, so this one is the project's own, in the style of the gateway's JSON:
 *
 *   {"add": [{"peerURLs": ["http://host:2380"], "isLearner": true}], "promote": ["ID"], "remove": ["ID"]}
 *   -> {"header": ..., "members": [member...], "added": [member...]}
 *
 * Every part may be left out, an id is a decimal string. Who may ask is who may call MemberAdd: that
 * is the port's TLS to decide. Without the right content type it is refused, so that browsers ask
 * before they send a page's request (--cors).
 */
import { create, fromJson, toJson, type JsonValue } from "@bufbuild/protobuf";
import { RpcError } from "../../shared/api/errors.ts";
import {
  MemberAddRequestSchema,
  MemberListResponseSchema,
  MemberSchema,
} from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { LIMITS } from "../../shared/base/limits.ts";
import { learnerRefusal } from "../../shared/peer/learner-rules.ts";
import { headerWithoutRevision, memberMessage } from "../../shared/peer/proto/replies.ts";
import type { MembersChange, Services } from "../../shared/peer/services.ts";
import {
  readBody,
  type HttpHandler,
  type HttpRequest,
  type HttpResponse,
} from "../http2/http-handler.ts";
import { callOf, refuse, rpcErrorOf } from "./gateway.ts";

export const MEMBER_CHANGE_PATH = "/quorate/members";

const PARTS: ReadonlySet<string> = new Set(["add", "promote", "remove"]);
const UINT64 = /^\d{1,20}$/;

export function isMemberChangeTarget(target: string): boolean {
  return target.split("?")[0] === MEMBER_CHANGE_PATH;
}

export function createMemberChange(services: Services): HttpHandler {
  return (request, response) => {
    answer(services, request, response).catch((error: unknown) => {
      refuse(response, rpcErrorOf(error));
    });
  };
}

async function answer(
  services: Services,
  request: HttpRequest,
  response: HttpResponse,
): Promise<void> {
  // Read first, whatever it is: an answer before it ends in a reset over HTTP/2.
  const body = await readBody(request, LIMITS.requestBytesMax);
  if (request.method !== "POST") {
    return refuse(response, new RpcError("unimplemented", "Method Not Allowed"), 405);
  }
  if (!/^application\/json(?:;|$)/.test(request.header("content-type") ?? "")) {
    const error = new RpcError("invalidArgument", "the content type is to be application/json");
    return refuse(response, error, 415);
  }
  if (body === undefined) throw new RpcError("resourceExhausted", "the request is too long");
  const refusal = learnerRefusal(services, false);
  if (refusal !== undefined) throw refusal;
  const change = changeOf(body.toString("utf8"));
  const { header, members, added } = await services.cluster.memberChange(
    change,
    callOf(request, response),
  );
  if (response.isOver) return;
  const list = create(MemberListResponseSchema, {
    header: headerWithoutRevision(header),
    members: members.map(memberMessage),
  });
  const useProtoFieldName = { useProtoFieldName: true };
  const json = {
    ...(toJson(MemberListResponseSchema, list, useProtoFieldName) as object),
    added: added.map((each) =>
      toJson(MemberSchema, create(MemberSchema, memberMessage(each)), useProtoFieldName),
    ),
  };
  response.writeHead(200, { "content-type": "application/json" });
  response.end(JSON.stringify(json));
}

/** What a body asks for; throws for what is no change of members. */
function changeOf(text: string): MembersChange {
  try {
    const json = JSON.parse(text) as Readonly<Record<string, JsonValue>> | null;
    if (typeof json !== "object" || json === null) throw new TypeError("an object is needed");
    const unknown = Object.keys(json).find((part) => !PARTS.has(part));
    if (unknown !== undefined) throw new TypeError(`"${unknown}" is not known`);
    const add = listOf(json, "add").map((each) => {
      const { peerURLs, isLearner } = fromJson(MemberAddRequestSchema, each);
      return { peerUrls: peerURLs, isLearner };
    });
    return { add, promote: idsOf(json, "promote"), remove: idsOf(json, "remove") };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new RpcError("invalidArgument", `malformed request: ${reason}`, { cause });
  }
}

function listOf(json: Readonly<Record<string, JsonValue>>, part: string): readonly JsonValue[] {
  const list = json[part] ?? [];
  if (!Array.isArray(list)) throw new TypeError(`"${part}" is a list`);
  return list;
}

function idsOf(json: Readonly<Record<string, JsonValue>>, part: string): bigint[] {
  return listOf(json, part).map((id) => {
    if (typeof id !== "string" || !UINT64.test(id) || BigInt(id) >= 2n ** 64n) {
      throw new TypeError(`"${part}" has ids in decimal, as text`);
    }
    return BigInt(id);
  });
}
