/**
 * etcd's JSON gateway: POST of JSON to the paths of `gateway-paths.ts`, by grpc-gateway's rules.
 * Names are taken in both spellings and given as in the .proto files, 64-bit numbers are strings
 * (taken as numbers, too), bytes base64, zero values left out. A stream's requests are JSON values
 * one after the other, its replies lines of `{"result": ...}`, ended by one of `{"error": ...}` when
 * it fails.
 */
import { fromJson, toJson, type JsonValue, type Message } from "@bufbuild/protobuf";
import { RpcError, STATUS } from "../../shared/api/errors.ts";
import { HTTP_STATUS } from "../../shared/api/http-status.ts";
import { parseExactJson } from "../../shared/base/exact-json.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import type { AnswerSink, ProtoMethod, StreamHandler } from "../../shared/peer/proto/method.ts";
import type { ProtoServices } from "../../shared/peer/proto/methods.ts";
import type { CallContext } from "../../shared/peer/services.ts";
import {
  readBody,
  type HttpHandler,
  type HttpRequest,
  type HttpResponse,
} from "../http2/http-handler.ts";
import { GATEWAY_PATHS } from "./gateway-paths.ts";
import { JsonSplitter } from "./json-splitter.ts";

/** What a request's JSON may take, by the bytes that it may have as protobuf: base64 and escapes. */
export function jsonBytesMaxOf(requestBytesMax: number): number {
  return 2 * (requestBytesMax + LIMITS.requestOverheadBytes);
}

const READ_OPTIONS = { ignoreUnknownFields: true, recursionLimit: LIMITS.messageDepthMax };

const JSON_HEADERS = { "content-type": "application/json" };

/** Whether the gateway answers this target. */
export function isGatewayTarget(target: string): boolean {
  return target.startsWith("/v3/") || target.startsWith("/v3beta/");
}

/** `requestBytesMax`: as the services take it. */
export function createGateway(
  services: ProtoServices,
  requestBytesMax: number = LIMITS.requestBytesMax,
): HttpHandler {
  const jsonBytesMax = jsonBytesMaxOf(requestBytesMax);
  return (request, response) => {
    const refuseUnread = (refusal: { error: RpcError; status?: number }): void =>
      refuseOnceRead(request, response, { ...refusal, jsonBytesMax });
    const name = methodNameOf(request.target);
    if (name === undefined) {
      return refuseUnread({ error: new RpcError("notFound", "Not Found") });
    }
    if (request.method !== "POST") {
      const error = new RpcError("unimplemented", "Method Not Allowed");
      return refuseUnread({ error, status: 405 });
    }
    const [service, methodName] = name.split("/") as [string, string];
    const method = services[service]?.[methodName];
    if (method === undefined) {
      const text =
        services[service] === undefined
          ? `unknown service ${service}`
          : `unknown method ${methodName} for service ${service}`;
      return refuseUnread({ error: new RpcError("unimplemented", text) });
    }
    if (method.kind === "unary") void answerUnary(method, request, response, jsonBytesMax);
    else answerStream(method, request, response, jsonBytesMax);
  };
}

/** Whether the method behind a target takes one request, or there is none. */
export function isUnaryTarget(services: ProtoServices, target: string): boolean {
  const [service = "", method = ""] = (methodNameOf(target) ?? "").split("/");
  return (services[service]?.[method]?.kind ?? "unary") === "unary";
}

/** `package.Service/Method` of a target. */
function methodNameOf(target: string): string | undefined {
  return GATEWAY_PATHS.get((target.split("?")[0] as string).replace(/^\/v3(beta)?\//, ""));
}

async function answerUnary(
  method: Extract<ProtoMethod, { kind: "unary" }>,
  request: HttpRequest,
  response: HttpResponse,
  jsonBytesMax: number,
): Promise<void> {
  try {
    const body = await readBody(request, jsonBytesMax);
    if (body === undefined) {
      const text = `the request is longer than ${jsonBytesMax} bytes`;
      throw new RpcError("resourceExhausted", text);
    }
    const message = messageOf(method, body.toString("utf8"));
    const answer = await method.handle(message, callOf(request, response));
    if (response.isOver) return;
    response.writeHead(200, JSON_HEADERS);
    response.end(JSON.stringify(jsonOf(method, answer)));
  } catch (error) {
    refuse(response, rpcErrorOf(error));
  }
}

function answerStream(
  method: Exclude<ProtoMethod, { kind: "unary" }>,
  request: HttpRequest,
  response: HttpResponse,
  jsonBytesMax: number,
): void {
  let isOver = false;
  let handler: StreamHandler<Message> | undefined;
  const finish = (error?: unknown): void => {
    if (isOver) return;
    isOver = true;
    if (!response.isOver) {
      const failure = error === undefined ? undefined : rpcErrorOf(error);
      const status = HTTP_STATUS[failure?.status ?? "ok"];
      if (!response.hasHead) response.writeHead(status, JSON_HEADERS);
      if (failure === undefined) response.end();
      else response.end(`${JSON.stringify({ error: statusOf(failure) })}\n`);
    }
    handler?.closed();
  };
  const sink: AnswerSink<unknown> = {
    send(answer) {
      if (isOver) return true;
      if (!response.hasHead) response.writeHead(200, JSON_HEADERS);
      return response.write(`${JSON.stringify({ result: jsonOf(method, answer) })}\n`);
    },
    end: finish,
    pause: () => request.pause(),
    resume: () => request.resume(),
  };
  try {
    handler = method.open(sink, callOf(request, response));
    if (isOver) handler.closed();
  } catch (error) {
    finish(error);
  }
  response.onDrain(() => {
    if (!isOver) handler?.drained();
  });
  response.onAbort(() => finish());
  const splitter = new JsonSplitter(jsonBytesMax);
  const take = (texts: () => readonly string[]): void => {
    if (isOver) return;
    try {
      for (const text of texts()) handler?.receive(messageOf(method, text));
    } catch (error) {
      finish(error);
    }
  };
  request.receive({
    data: (chunk) => take(() => splitter.push(chunk)),
    end() {
      take(() => splitter.end());
      if (!isOver) handler?.halfClose();
    },
    aborted: () => finish(),
  });
}

export function callOf(request: HttpRequest, response: HttpResponse): CallContext {
  return {
    timeoutMilliseconds: undefined,
    requireLeader: request.header("grpc-metadata-hasleader") === "true",
    onCancel: (callback) => response.onAbort(callback),
  };
}

function messageOf(method: ProtoMethod, text: string) {
  try {
    const json = text.trim() === "" ? {} : (parseExactJson(text) as JsonValue);
    return fromJson(method.input, json, READ_OPTIONS);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new RpcError("invalidArgument", `malformed request: ${reason}`, { cause: error });
  }
}

function jsonOf(method: ProtoMethod, answer: unknown): JsonValue {
  return toJson(method.output, method.message(answer), { useProtoFieldName: true });
}

export function rpcErrorOf(error: unknown): RpcError {
  if (error instanceof RpcError) return error;
  return new RpcError("unknown", error instanceof Error ? error.message : String(error));
}

/** google.rpc.Status as JSON. */
function statusOf(error: RpcError) {
  return { code: STATUS[error.status], message: error.message, details: [] };
}

/**
 * Refuses once the body has come: an answer before it ends in a reset over HTTP/2, which some
 * clients take for a failure of the connection.
 */
function refuseOnceRead(
  request: HttpRequest,
  response: HttpResponse,
  refusal: { error: RpcError; status?: number; jsonBytesMax: number },
): void {
  readBody(request, refusal.jsonBytesMax).then(
    () => refuse(response, refusal.error, refusal.status),
    // The client is gone.
    () => undefined,
  );
}

/** Answers an error as grpc-gateway does. */
export function refuse(
  response: HttpResponse,
  error: RpcError,
  status = HTTP_STATUS[error.status],
): void {
  if (response.isOver) return;
  if (!response.hasHead) response.writeHead(status, JSON_HEADERS);
  // `error` repeats the text for clients of etcd 3.4 and older.
  response.end(JSON.stringify({ error: error.message, ...statusOf(error) }));
}
