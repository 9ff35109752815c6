/**
 * etcd's methods (`shared/peer/proto`) on the gRPC server: metadata and deadlines become the
 * services' call context.
 */
import type { Message } from "@bufbuild/protobuf";
import type { Bytes } from "../../shared/base/bytes.ts";
import type { AnswerSink, ProtoMethod } from "../../shared/peer/proto/method.ts";
import type { ProtoServices } from "../../shared/peer/proto/methods.ts";
import type { CallContext as ServiceCall } from "../../shared/peer/services.ts";
import type { CallContext, Method, Services, StreamCall } from "./service.ts";

export function grpcServices(services: ProtoServices): Services {
  return Object.fromEntries(
    Object.entries(services).map(([name, methods]) => [
      name,
      Object.fromEntries(
        Object.entries(methods).map(([method, proto]) => [method, grpcMethod(proto)]),
      ),
    ]),
  );
}

function grpcMethod(method: ProtoMethod): Method {
  const codec = {
    decode: (bytes: Bytes) => method.decode(bytes),
    encode: (answer: unknown) => method.encode(answer),
  };
  if (method.kind === "unary") {
    return {
      kind: "unary",
      ...codec,
      handle: (request, call) => method.handle(request as Message, new GrpcCall(call)),
    };
  }
  return { kind: method.kind, ...codec, open: (call) => openStream(method, call) };
}

function openStream(method: Exclude<ProtoMethod, { kind: "unary" }>, call: StreamCall<unknown>) {
  const sink: AnswerSink<unknown> = {
    send: (answer) => call.send(answer),
    end: (error) => call.end(error),
    pause: () => call.pause(),
    resume: () => call.resume(),
  };
  const handler = method.open(sink, new GrpcCall(call));
  // Clients of bidirectional streams wait for the headers before they send.
  if (method.kind === "bidi") call.sendHeaders();
  call.onDrain(() => handler.drained());
  return {
    receive: (request: unknown) => handler.receive(request as Message),
    halfClose: () => handler.halfClose(),
    closed: () => handler.closed(),
  };
}

class GrpcCall implements ServiceCall {
  readonly #call: CallContext;

  constructor(call: CallContext) {
    this.#call = call;
  }

  get timeoutMilliseconds(): number | undefined {
    const { deadline } = this.#call;
    return deadline === Infinity ? undefined : Math.max(0, deadline - performance.now());
  }

  get requireLeader(): boolean {
    return this.#call.metadata("hasleader") === "true";
  }

  onCancel(callback: () => void): void {
    this.#call.onCancel(callback);
  }
}
