/** A grpc-js client for the echo services; messages are bytes. */
import { Client, Metadata, credentials, type CallOptions, type ServiceError } from "@grpc/grpc-js";

const identity = (bytes: Buffer): Buffer => bytes;

export function echoClient(port: number, options: Record<string, number | string> = {}): Client {
  return new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    ...options,
  });
}

export interface UnaryOutcome {
  reply: Buffer | undefined;
  code: number;
  details: string;
}

/** Calls and reports the outcome either way. */
export function unary(
  client: Client,
  method: string,
  request: Uint8Array | string,
  options: CallOptions & { metadata?: Record<string, string> } = {},
): Promise<UnaryOutcome> {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(options.metadata ?? {})) metadata.set(name, value);
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      method.startsWith("/") ? method : `/test.Echo/${method}`,
      identity,
      identity,
      Buffer.from(request),
      metadata,
      options,
      (error: ServiceError | null, reply?: Buffer) =>
        resolve({ reply, code: error?.code ?? 0, details: error?.details ?? "" }),
    );
  });
}

export function chat(client: Client, method = "Chat") {
  return client.makeBidiStreamRequest(`/test.Echo/${method}`, identity, identity);
}

export function flow(client: Client, messages: number) {
  return client.makeServerStreamRequest(
    "/test.Echo/Flow",
    identity,
    identity,
    Buffer.alloc(messages, 1),
  );
}
