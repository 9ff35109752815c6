/**
 * A thin etcd client of the tests: one method per RPC, requests and responses as the API's own messages, nothing
 * retried or interpreted. Plus the few conversions that tests need.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  Health,
  type HealthCheckRequestSchema,
} from "../../shared/api/gen/grpc/health/v1/health_pb.js";
import {
  Auth,
  type AuthenticateRequestSchema,
  Cluster,
  type CompactionRequestSchema,
  type DeleteRangeRequestSchema,
  KV,
  Lease,
  type LeaseGrantRequestSchema,
  type LeaseKeepAliveRequestSchema,
  type LeaseTimeToLiveRequestSchema,
  Maintenance,
  type MemberAddRequestSchema,
  type MemberUpdateRequestSchema,
  type PutRequestSchema,
  type RangeRequestSchema,
  type TxnRequestSchema,
  Watch,
  type WatchCreateRequestSchema,
  type WatchRequestSchema,
  type LeaseKeepAliveResponse,
  type RangeStreamResponse,
  type WatchResponse,
} from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import type { CallOptions, Duplex, Responses, RpcChannel } from "./rpc-channel.ts";

export type RangeInit = MessageInitShape<typeof RangeRequestSchema>;
export type PutInit = MessageInitShape<typeof PutRequestSchema>;
export type DeleteInit = MessageInitShape<typeof DeleteRangeRequestSchema>;
export type TxnInit = MessageInitShape<typeof TxnRequestSchema>;
export type WatchInit = MessageInitShape<typeof WatchCreateRequestSchema>;

/** One watch stream; many watchers may share it. */
export class WatchStream {
  readonly #call: Duplex<MessageInitShape<typeof WatchRequestSchema>, WatchResponse>;

  constructor(call: Duplex<MessageInitShape<typeof WatchRequestSchema>, WatchResponse>) {
    this.#call = call;
  }

  /** Sends a create request; the caller reads its answer. */
  create(value: WatchInit): void {
    this.#call.send({ requestUnion: { case: "createRequest", value } });
  }

  /** Sends a create request and returns its answer, which must be the next response. */
  async created(value: WatchInit): Promise<WatchResponse> {
    this.create(value);
    const answer = await this.next();
    if (!answer.created) throw new Error("the next response is no answer to the create request");
    return answer;
  }

  cancelWatch(watchId: bigint): void {
    this.#call.send({ requestUnion: { case: "cancelRequest", value: { watchId } } });
  }

  requestProgress(): void {
    this.#call.send({ requestUnion: { case: "progressRequest", value: {} } });
  }

  /** A request with no union member set. */
  sendEmpty(): void {
    this.#call.send({});
  }

  next(milliseconds?: number): Promise<WatchResponse> {
    return this.#call.next(milliseconds);
  }

  quiet(milliseconds: number): Promise<void> {
    return this.#call.quiet(milliseconds);
  }

  halfClose(): void {
    this.#call.halfClose();
  }

  end(milliseconds?: number): ReturnType<Responses<WatchResponse>["end"]> {
    return this.#call.end(milliseconds);
  }

  /** Aborts the call. */
  cancel(): void {
    this.#call.cancel();
  }
}

export class EtcdClient {
  readonly channel: RpcChannel;

  constructor(channel: RpcChannel) {
    this.channel = channel;
  }

  range(request: RangeInit, options?: CallOptions) {
    return this.channel.unary(KV.method.range, request, options);
  }

  rangeStream(request: RangeInit): Responses<RangeStreamResponse> {
    return this.channel.serverStream(KV.method.rangeStream, request);
  }

  put(request: PutInit, options?: CallOptions) {
    return this.channel.unary(KV.method.put, request, options);
  }

  deleteRange(request: DeleteInit, options?: CallOptions) {
    return this.channel.unary(KV.method.deleteRange, request, options);
  }

  txn(request: TxnInit, options?: CallOptions) {
    return this.channel.unary(KV.method.txn, request, options);
  }

  compact(request: MessageInitShape<typeof CompactionRequestSchema>) {
    return this.channel.unary(KV.method.compact, request);
  }

  watch(options?: CallOptions): WatchStream {
    return new WatchStream(this.channel.duplex(Watch.method.watch, options));
  }

  leaseGrant(request: MessageInitShape<typeof LeaseGrantRequestSchema>) {
    return this.channel.unary(Lease.method.leaseGrant, request);
  }

  leaseRevoke(ID: bigint) {
    return this.channel.unary(Lease.method.leaseRevoke, { ID });
  }

  leaseKeepAlive(): Duplex<
    MessageInitShape<typeof LeaseKeepAliveRequestSchema>,
    LeaseKeepAliveResponse
  > {
    return this.channel.duplex(Lease.method.leaseKeepAlive);
  }

  leaseTimeToLive(request: MessageInitShape<typeof LeaseTimeToLiveRequestSchema>) {
    return this.channel.unary(Lease.method.leaseTimeToLive, request);
  }

  leaseLeases() {
    return this.channel.unary(Lease.method.leaseLeases, {});
  }

  memberList(options: { linearizable?: boolean } = {}) {
    return this.channel.unary(Cluster.method.memberList, options);
  }

  memberAdd(request: MessageInitShape<typeof MemberAddRequestSchema>) {
    return this.channel.unary(Cluster.method.memberAdd, request);
  }

  memberRemove(ID: bigint) {
    return this.channel.unary(Cluster.method.memberRemove, { ID });
  }

  memberUpdate(request: MessageInitShape<typeof MemberUpdateRequestSchema>) {
    return this.channel.unary(Cluster.method.memberUpdate, request);
  }

  memberPromote(ID: bigint) {
    return this.channel.unary(Cluster.method.memberPromote, { ID });
  }

  moveLeader(targetID: bigint) {
    return this.channel.unary(Maintenance.method.moveLeader, { targetID });
  }

  status() {
    return this.channel.unary(Maintenance.method.status, {});
  }

  authenticate(request: MessageInitShape<typeof AuthenticateRequestSchema>) {
    return this.channel.unary(Auth.method.authenticate, request);
  }

  authStatus() {
    return this.channel.unary(Auth.method.authStatus, {});
  }

  healthCheck(request: MessageInitShape<typeof HealthCheckRequestSchema> = {}) {
    return this.channel.unary(Health.method.check, request);
  }

  close(): void {
    this.channel.close();
  }
}
