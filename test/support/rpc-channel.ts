/**
 * How the API suite calls a target: one interface over protobuf-es method descriptors, and its implementation on
 * @grpc/grpc-js. Failures are `RpcError`s with the received status and text, whatever the transport.
 */
import {
  create,
  fromBinary,
  toBinary,
  type DescMessage,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import {
  Client,
  credentials,
  Metadata,
  status as grpcStatus,
  type ClientReadableStream,
  type ServiceError,
  type StatusObject,
} from "@grpc/grpc-js";
import { RpcError, STATUS, type StatusName } from "../../shared/api/errors.ts";
import { Inbox } from "./inbox.ts";

export interface CallOptions {
  readonly metadata?: Readonly<Record<string, string>>;
  readonly timeoutMilliseconds?: number;
}

/** A stream of responses: `next` waits for one, `cancel` aborts the call. */
export interface Responses<Output> {
  /** The next response; rejects with the call's error, or when none comes in time. */
  next(milliseconds?: number): Promise<Output>;
  /** Asserts that no response comes in this time. */
  quiet(milliseconds: number): Promise<void>;
  /** Every response until the call ends without an error. */
  all(): Promise<Output[]>;
  /** The error that ended the call, or undefined for a clean end; waits for the end. */
  end(milliseconds?: number): Promise<RpcError | undefined>;
  cancel(): void;
}

export interface Duplex<Input, Output> extends Responses<Output> {
  send(message: Input): void;
  /** Ends the request side; the responses go on as long as the server likes. */
  halfClose(): void;
}

export interface RpcChannel {
  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    input: MessageInitShape<I>,
    options?: CallOptions,
  ): Promise<MessageShape<O>>;
  serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    input: MessageInitShape<I>,
    options?: CallOptions,
  ): Responses<MessageShape<O>>;
  duplex<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    options?: CallOptions,
  ): Duplex<MessageInitShape<I>, MessageShape<O>>;
  close(): void;
}

/** Above the server's own limit on a slow machine, so that it is the server that answers. */
const UNARY_MILLISECONDS = 30_000;
const STATUS_NAMES = new Map(
  Object.entries(STATUS).map(([name, code]) => [code as number, name as StatusName]),
);

function rpcErrorOf(error: ServiceError): RpcError {
  return new RpcError(STATUS_NAMES.get(error.code) ?? "unknown", error.details, { cause: error });
}

function metadataOf(options: CallOptions | undefined): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(options?.metadata ?? {})) metadata.set(name, value);
  return metadata;
}

function pathOf(method: { parent: { typeName: string }; name: string }): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** The status decides how a call ended: its "end" also comes before an error. */
function fillInbox<Output>(inbox: Inbox<Output>, call: ClientReadableStream<Output>): void {
  call.on("data", (message: Output) => inbox.push(message));
  call.on("error", (error: ServiceError) => inbox.close(rpcErrorOf(error)));
  call.on("status", (status: StatusObject) => {
    if (status.code === grpcStatus.OK) inbox.close(undefined);
  });
}

/** Received bytes as plain arrays, so that tests compare them with what they sent. */
const plain = (bytes: Buffer) => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);

const encoded = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);

/** A connection of its own to one address. */
export class GrpcChannel implements RpcChannel {
  readonly #client: Client;

  constructor(address: string) {
    this.#client = new Client(address, credentials.createInsecure(), {
      "grpc.use_local_subchannel_pool": 1,
      "grpc.max_receive_message_length": -1,
      "grpc.max_send_message_length": -1,
      "grpc.enable_retries": 0,
    });
  }

  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    input: MessageInitShape<I>,
    options?: CallOptions,
  ): Promise<MessageShape<O>> {
    const bytes = encoded(toBinary(method.input, create(method.input, input)));
    return this.unaryBytes(pathOf(method), bytes, options).then((reply) =>
      fromBinary(method.output, reply),
    );
  }

  /** A unary call of any path with any bytes as its message, for requests that no encoder makes. */
  unaryBytes(path: string, message: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        path,
        encoded,
        plain,
        message,
        metadataOf(options),
        { deadline: Date.now() + (options?.timeoutMilliseconds ?? UNARY_MILLISECONDS) },
        (error, reply) => {
          if (error === null && reply !== undefined) resolve(reply);
          else reject(error === null ? new Error("no reply") : rpcErrorOf(error));
        },
      );
    });
  }

  serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    input: MessageInitShape<I>,
    options?: CallOptions,
  ): Responses<MessageShape<O>> {
    const call = this.#client.makeServerStreamRequest(
      pathOf(method),
      (message: MessageShape<I>) => encoded(toBinary(method.input, message)),
      (bytes: Buffer) => fromBinary(method.output, plain(bytes)),
      create(method.input, input),
      metadataOf(options),
    );
    const inbox = new Inbox<MessageShape<O>>(() => call.cancel());
    fillInbox(inbox, call);
    return inbox;
  }

  duplex<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    options?: CallOptions,
  ): Duplex<MessageInitShape<I>, MessageShape<O>> {
    const call = this.#client.makeBidiStreamRequest(
      pathOf(method),
      (message: MessageShape<I>) => encoded(toBinary(method.input, message)),
      (bytes: Buffer) => fromBinary(method.output, plain(bytes)),
      metadataOf(options),
    );
    const inbox = new Inbox<MessageShape<O>>(() => call.cancel());
    fillInbox(inbox, call);
    return Object.assign(inbox, {
      send: (message: MessageInitShape<I>) => void call.write(create(method.input, message)),
      halfClose: () => void call.end(),
    });
  }

  close(): void {
    this.#client.close();
  }
}
