/**
 * One method of etcd's API as the doors see it: descriptors for JSON and reflection, a codec for
 * the wire, and the handler. The gRPC server and the JSON gateway both serve these.
 */
import {
  create,
  fromBinary,
  toBinary,
  type DescMessage,
  type DescMethod,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import type { Bytes } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import type { CallContext } from "../services.ts";

interface Common<Input extends DescMessage, Output extends DescMessage, Answer> {
  readonly input: Input;
  readonly output: Output;
  /** Throws on malformed bytes. */
  decode(bytes: Bytes): MessageShape<Input>;
  encode(answer: Answer): Bytes;
  /** The answer as a message, for JSON. */
  message(answer: Answer): MessageShape<Output>;
}

export interface UnaryMethod<
  Input extends DescMessage,
  Output extends DescMessage,
  Answer,
> extends Common<Input, Output, Answer> {
  readonly kind: "unary";
  handle(request: MessageShape<Input>, call: CallContext): Promise<Answer>;
}

/** How a streaming handler answers. */
export interface AnswerSink<Answer> {
  /** False: full; the handler hears of it by `StreamHandler.drained`. The answer was taken. */
  send(answer: Answer): boolean;
  /** Ends the call, with an error or well. */
  end(error?: unknown): void;
  /** No more requests until `resume`. */
  pause(): void;
  resume(): void;
}

/** A streaming call as its handler is told of it. */
export interface StreamHandler<Request> {
  receive(request: Request): void;
  halfClose(): void;
  drained(): void;
  /** The call is over, whatever the reason; nothing follows. */
  closed(): void;
}

export interface StreamMethod<
  Input extends DescMessage,
  Output extends DescMessage,
  Answer,
> extends Common<Input, Output, Answer> {
  readonly kind: "serverStream" | "bidi";
  open(sink: AnswerSink<Answer>, call: CallContext): StreamHandler<MessageShape<Input>>;
}

// The parameters of a method's functions are checked bivariantly, so each concrete one is a
// `ProtoMethod`.
export type ProtoMethod =
  | UnaryMethod<DescMessage, DescMessage, unknown>
  | StreamMethod<DescMessage, DescMessage, unknown>;

interface Shape<Input extends DescMessage, Output extends DescMessage, Answer> {
  readonly message: (answer: Answer) => MessageInitShape<Output>;
  /** A lean encoder, where protobuf-es is too slow. */
  readonly encode?: (answer: Answer) => Bytes;
  /** A lean decoder; undefined: these bytes are left to protobuf-es. */
  readonly decode?: (bytes: Bytes) => MessageShape<Input> | undefined;
}

function codec<Input extends DescMessage, Output extends DescMessage, Answer>(
  descriptor: DescMethod & { input: Input; output: Output },
  shape: Shape<Input, Output, Answer>,
): Common<Input, Output, Answer> {
  const { input, output } = descriptor;
  const message = (answer: Answer): MessageShape<Output> => create(output, shape.message(answer));
  const whole = (bytes: Bytes): MessageShape<Input> =>
    fromBinary(input, bytes, { recursionLimit: LIMITS.messageDepthMax });
  return {
    input,
    output,
    decode: (bytes) => shape.decode?.(bytes) ?? whole(bytes),
    encode: shape.encode ?? ((answer) => toBinary(output, message(answer))),
    message,
  };
}

export function unary<Input extends DescMessage, Output extends DescMessage, Answer>(
  descriptor: DescMethod & { input: Input; output: Output },
  handle: (request: MessageShape<Input>, call: CallContext) => Promise<Answer>,
  shape: Shape<Input, Output, Answer>,
): UnaryMethod<Input, Output, Answer> {
  return { kind: "unary", ...codec(descriptor, shape), handle };
}

export function streaming<Input extends DescMessage, Output extends DescMessage, Answer>(
  kind: "serverStream" | "bidi",
  descriptor: DescMethod & { input: Input; output: Output },
  open: (sink: AnswerSink<Answer>, call: CallContext) => StreamHandler<MessageShape<Input>>,
  shape: Shape<Input, Output, Answer>,
): StreamMethod<Input, Output, Answer> {
  return { kind, ...codec(descriptor, shape), open };
}
