/**
 * Calls etcd's JSON gateway, for the API suite: POST for a call with one answer, WebSocket for a stream. Requests and
 * answers are translated by protobuf's rules for JSON here, not by the project's code. What a gateway can't carry is a
 * failure that says so, for `known-differences.txt` to name: the end of requests alone, and methods without a path.
 */
import {
  create,
  fromJson,
  toJson,
  type DescMessage,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type JsonValue,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { WebSocket } from "ws";
import { RpcError, STATUS, type StatusName } from "../../shared/api/errors.ts";
import { Inbox } from "./inbox.ts";
import type { CallOptions, Duplex, Responses, RpcChannel } from "./rpc-channel.ts";

const UNARY_MILLISECONDS = 30_000;

/** Paths that aren't the method's name in small letters below the service's. */
const PATHS: Readonly<Record<string, string>> = {
  "KV/Compact": "kv/compaction",
  "Watch/Watch": "watch",
  "Lease/LeaseGrant": "lease/grant",
  "Lease/LeaseRevoke": "lease/revoke",
  "Lease/LeaseKeepAlive": "lease/keepalive",
  "Lease/LeaseTimeToLive": "lease/timetolive",
  "Lease/LeaseLeases": "lease/leases",
  "Cluster/MemberAdd": "cluster/member/add",
  "Cluster/MemberRemove": "cluster/member/remove",
  "Cluster/MemberUpdate": "cluster/member/update",
  "Cluster/MemberList": "cluster/member/list",
  "Cluster/MemberPromote": "cluster/member/promote",
  "Auth/AuthStatus": "auth/status",
  "Maintenance/MoveLeader": "maintenance/transfer-leadership",
};

const STATUS_NAMES = new Map(
  Object.entries(STATUS).map(([name, code]) => [code as number, name as StatusName]),
);

/** An error as any version of the gateway writes it. */
interface GatewayError {
  readonly code?: number;
  readonly grpc_code?: number;
  readonly message?: string;
}

function rpcErrorOf({ code, grpc_code: older, message }: GatewayError): RpcError {
  return new RpcError(STATUS_NAMES.get(code ?? older ?? 2) ?? "unknown", message ?? "no message");
}

function pathOf(method: DescMethod): string {
  const service = method.parent.name;
  return `/v3/${PATHS[`${service}/${method.name}`] ?? `${service}/${method.name}`.toLowerCase()}`;
}

function headersOf(options: CallOptions | undefined): Record<string, string> {
  const entries = Object.entries(options?.metadata ?? {});
  return Object.fromEntries(entries.map(([name, value]) => [`grpc-metadata-${name}`, value]));
}

function written<I extends DescMessage>(schema: I, input: MessageInitShape<I>): string {
  return JSON.stringify(toJson(schema, create(schema, input)));
}

export class GatewayChannel implements RpcChannel {
  /** `host:port`. */
  readonly #address: string;
  readonly #open = new Set<WebSocket>();

  constructor(address: string) {
    this.#address = address;
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    input: MessageInitShape<I>,
    options?: CallOptions,
  ): Promise<MessageShape<O>> {
    const response = await fetch(`http://${this.#address}${pathOf(method)}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headersOf(options) },
      body: written(method.input, input),
      signal: AbortSignal.timeout(options?.timeoutMilliseconds ?? UNARY_MILLISECONDS),
    });
    const answer = (await response.json()) as JsonValue;
    if (!response.ok) throw rpcErrorOf(answer as GatewayError);
    return fromJson(method.output, answer);
  }

  serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    input: MessageInitShape<I>,
    options?: CallOptions,
  ): Responses<MessageShape<O>> {
    const stream = this.#stream(method, options);
    stream.send(input);
    return stream;
  }

  duplex<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    options?: CallOptions,
  ): Duplex<MessageInitShape<I>, MessageShape<O>> {
    return this.#stream(method, options);
  }

  close(): void {
    for (const socket of this.#open) socket.terminate();
  }

  #stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethod & { input: I; output: O },
    options: CallOptions | undefined,
  ): Duplex<MessageInitShape<I>, MessageShape<O>> {
    const headers = headersOf(options);
    const socket = new WebSocket(`ws://${this.#address}${pathOf(method)}`, { headers });
    this.#open.add(socket);
    const inbox = new Inbox<MessageShape<O>>(() => {
      inbox.close(new RpcError("canceled", "cancelled on client"));
      socket.terminate();
    });
    socket.on("message", (data) => {
      const line = JSON.parse((data as Buffer).toString("utf8")) as {
        result?: JsonValue;
        error?: GatewayError;
      };
      if (line.result === undefined) inbox.close(rpcErrorOf(line.error ?? {}));
      else inbox.push(fromJson(method.output, line.result));
    });
    socket.on("error", (error) => inbox.close(new RpcError("unavailable", error.message)));
    socket.on("close", () => {
      this.#open.delete(socket);
      inbox.close(undefined);
    });
    const waiting: string[] = [];
    socket.on("open", () => {
      for (const text of waiting) socket.send(text);
    });
    return Object.assign(inbox, {
      send(message: MessageInitShape<I>) {
        const text = written(method.input, message);
        if (socket.readyState === socket.CONNECTING) waiting.push(text);
        else socket.send(text);
      },
      halfClose() {
        throw new Error("a WebSocket ends both ways at once");
      },
    });
  }
}
