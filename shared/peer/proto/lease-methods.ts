/** The methods of etcdserverpb.Lease. */
import { Lease, type LeaseKeepAliveRequest } from "../../api/gen/etcdserverpb/rpc_pb.js";
import { LIMITS } from "../../base/limits.ts";
import type { CallContext, Header, LeaseService } from "../services.ts";
import { decodeKeepAliveRequest } from "./decode.ts";
import { encodeKeepAliveResponse } from "./encode.ts";
import {
  streaming,
  unary,
  type AnswerSink,
  type ProtoMethod,
  type StreamHandler,
} from "./method.ts";
import { headerMessage } from "./replies.ts";

export function leaseMethods(lease: LeaseService): Readonly<Record<string, ProtoMethod>> {
  return {
    LeaseGrant: unary(
      Lease.method.leaseGrant,
      (request, call) => lease.grant({ id: request.ID, ttlSeconds: request.TTL }, call),
      {
        message: ({ header, id, ttlSeconds }) => ({
          header: headerMessage(header),
          ID: id,
          TTL: BigInt(ttlSeconds),
        }),
      },
    ),
    LeaseRevoke: unary(
      Lease.method.leaseRevoke,
      (request, call) => lease.revoke(request.ID, call),
      { message: ({ header }) => ({ header: headerMessage(header) }) },
    ),
    LeaseKeepAlive: streaming(
      "bidi",
      Lease.method.leaseKeepAlive,
      (sink, call) => new KeepAliveStream(lease, sink, call),
      {
        decode: decodeKeepAliveRequest,
        encode: encodeKeepAliveResponse,
        message: ({ header, id, ttlSeconds }) => ({
          header: headerMessage(header),
          ID: id,
          TTL: BigInt(ttlSeconds),
        }),
      },
    ),
    LeaseTimeToLive: unary(
      Lease.method.leaseTimeToLive,
      async ({ ID: id, keys }, call) => ({ id, ...(await lease.timeToLive({ id, keys }, call)) }),
      {
        message: ({ id, header, ttlSeconds, grantedTtlSeconds, keys }) => ({
          header: headerMessage(header),
          ID: id,
          TTL: BigInt(ttlSeconds),
          grantedTTL: BigInt(grantedTtlSeconds),
          keys: [...keys],
        }),
      },
    ),
    LeaseLeases: unary(Lease.method.leaseLeases, (_request, call) => lease.leases(call), {
      message: ({ header, ids }) => ({
        header: headerMessage(header),
        leases: ids.map((ID) => ({ ID })),
      }),
    }),
  };
}

interface KeepAliveAnswer {
  readonly header: Header;
  readonly id: bigint;
  readonly ttlSeconds: number;
}

/** Answers in the order of the requests, though renewals are under way together. */
class KeepAliveStream implements StreamHandler<LeaseKeepAliveRequest> {
  readonly #lease: LeaseService;
  readonly #sink: AnswerSink<KeepAliveAnswer>;
  readonly #call: CallContext;
  /**
   * Answers, or undefined while one is awaited; those from the front on are sent once they are
   * there.
   */
  readonly #queue: { answer: KeepAliveAnswer | undefined }[] = [];
  #isHalfClosed = false;
  #isOver = false;
  #isFull = false;

  constructor(lease: LeaseService, sink: AnswerSink<KeepAliveAnswer>, call: CallContext) {
    this.#lease = lease;
    this.#sink = sink;
    this.#call = call;
  }

  receive({ ID: id }: LeaseKeepAliveRequest): void {
    const slot: { answer: KeepAliveAnswer | undefined } = { answer: undefined };
    this.#queue.push(slot);
    if (this.#queue.length >= LIMITS.keepAlivesPendingMax) this.#sink.pause();
    this.#lease.keepAlive([id], this.#call).then(
      ({ header, ttlSeconds }) => {
        slot.answer = { header, id, ttlSeconds: ttlSeconds[0] ?? 0 };
        this.#send();
      },
      (error: unknown) => this.#end(error),
    );
  }

  halfClose(): void {
    this.#isHalfClosed = true;
    this.#send();
  }

  drained(): void {
    this.#isFull = false;
    this.#send();
  }

  closed(): void {
    this.#isOver = true;
    this.#queue.length = 0;
  }

  #send(): void {
    while (!this.#isOver && !this.#isFull && this.#queue[0]?.answer !== undefined) {
      const answer = this.#queue.shift()?.answer;
      if (answer !== undefined) this.#isFull = !this.#sink.send(answer);
    }
    if (this.#isOver) return;
    if (this.#queue.length < LIMITS.keepAlivesPendingMax / 2) this.#sink.resume();
    if (this.#isHalfClosed && this.#queue.length === 0) this.#end(undefined);
  }

  #end(error: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#queue.length = 0;
    this.#sink.end(error);
  }
}
