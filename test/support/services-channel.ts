/**
 * Calls a peer's services in process, for the API suite: each message goes through the codecs that the doors use, and
 * nothing else stands between.
 */
import {
  create,
  fromBinary,
  toBinary,
  type DescMessage,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { RpcError } from "../../shared/api/errors.ts";
import type { ProtoMethod } from "../../shared/peer/proto/method.ts";
import { protoServices, type ProtoServices } from "../../shared/peer/proto/methods.ts";
import type { CallContext, Services } from "../../shared/peer/services.ts";
import { Inbox } from "./inbox.ts";
import type { CallOptions, Duplex, Responses, RpcChannel } from "./rpc-channel.ts";

/** A call that its owner can cancel. */
class InProcessCall implements CallContext {
  readonly timeoutMilliseconds: number | undefined;
  readonly requireLeader: boolean;
  #callbacks: (() => void)[] = [];

  constructor(options: CallOptions | undefined) {
    this.timeoutMilliseconds = options?.timeoutMilliseconds;
    this.requireLeader = options?.metadata?.["hasleader"] === "true";
  }

  onCancel(callback: () => void): void {
    this.#callbacks.push(callback);
  }

  cancel(): void {
    for (const callback of this.#callbacks.splice(0)) callback();
  }
}

function rpcErrorOf(error: unknown): RpcError {
  if (error instanceof RpcError) return error;
  return new RpcError("unknown", String(error), { cause: error });
}

export class ServicesChannel implements RpcChannel {
  readonly #services: ProtoServices;

  constructor(services: Services) {
    this.#services = protoServices(services);
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    descriptor: DescMethodUnary<I, O>,
    input: MessageInitShape<I>,
    options?: CallOptions,
  ): Promise<MessageShape<O>> {
    const method = this.#methodOf(descriptor);
    if (method.kind !== "unary") throw new Error(`${descriptor.name} is a stream`);
    const request = method.decode(toBinary(descriptor.input, create(descriptor.input, input)));
    const answer = await method.handle(request, new InProcessCall(options)).catch((error) => {
      throw rpcErrorOf(error);
    });
    return fromBinary(descriptor.output, method.encode(answer).slice());
  }

  serverStream<I extends DescMessage, O extends DescMessage>(
    descriptor: DescMethodServerStreaming<I, O>,
    input: MessageInitShape<I>,
    options?: CallOptions,
  ): Responses<MessageShape<O>> {
    const stream = this.#open(descriptor, options);
    stream.send(input);
    stream.halfClose();
    return stream;
  }

  duplex<I extends DescMessage, O extends DescMessage>(
    descriptor: DescMethodBiDiStreaming<I, O>,
    options?: CallOptions,
  ): Duplex<MessageInitShape<I>, MessageShape<O>> {
    return this.#open(descriptor, options);
  }

  close(): void {
    // The peer is its owner's to stop.
  }

  #open<I extends DescMessage, O extends DescMessage>(
    descriptor: DescMethod & { input: I; output: O },
    options: CallOptions | undefined,
  ): Duplex<MessageInitShape<I>, MessageShape<O>> {
    const method = this.#methodOf(descriptor);
    if (method.kind === "unary") throw new Error(`${descriptor.name} is no stream`);
    const call = new InProcessCall(options);
    let over = false;
    const end = (error: RpcError | undefined): void => {
      if (over) return;
      over = true;
      inbox.close(error);
      handler.closed();
    };
    const inbox = new Inbox<MessageShape<O>>(() => {
      call.cancel();
      end(new RpcError("canceled", "cancelled on client"));
    });
    const handler = method.open(
      {
        send(answer) {
          if (!over) inbox.push(fromBinary(descriptor.output, method.encode(answer).slice()));
          return true;
        },
        end: (error) => end(error === undefined ? undefined : rpcErrorOf(error)),
        pause: () => undefined,
        resume: () => undefined,
      },
      call,
    );
    return Object.assign(inbox, {
      send(message: MessageInitShape<I>) {
        const bytes = toBinary(descriptor.input, create(descriptor.input, message));
        if (!over) handler.receive(method.decode(bytes));
      },
      halfClose() {
        if (!over) handler.halfClose();
      },
    });
  }

  #methodOf(descriptor: DescMethod): ProtoMethod {
    const method = this.#services[descriptor.parent.typeName]?.[descriptor.name];
    if (method === undefined) throw new RpcError("unimplemented", `no ${descriptor.name}`);
    return method;
  }
}
