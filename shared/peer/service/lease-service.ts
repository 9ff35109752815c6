/**
 * Leases: granting and revoking go through the log; keepalives and remaining times are the leader's to answer,
 * after a confirmation of its lead that began after they arrived. Followers send it the keepalives of one turn in
 * one call.
 */
import { rpcError } from "../../api/errors.ts";
import type { Bytes } from "../../base/bytes.ts";
import { hexOf, utf8 } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import type { WriteIdentity } from "../../wire/command.ts";
import type { LeaseCall, PeerReply } from "../../wire/peer-call.ts";
import type { CallContext, Header, LeaseService } from "../services.ts";
import type { ServiceContext } from "./context.ts";
import { headerOnly } from "./kv-service.ts";
import { LeaderCalls, PATIENT } from "./leader-calls.ts";
import type { LeaseKeeper } from "./lease-keeper.ts";
import type { Quota } from "./quota.ts";
import { LEASE_COST_BYTES } from "./request-size.ts";

interface KeepAlive {
  readonly ids: readonly bigint[];
  readonly deadline: number;
  resolve(answer: { header: Header; ttlSeconds: readonly number[] }): void;
  reject(error: Error): void;
}

export class ReplicatedLeases implements LeaseService {
  readonly #context: ServiceContext;
  readonly #keeper: LeaseKeeper;
  readonly #quota: Quota;
  readonly #leader: LeaderCalls;
  /** Keepalives of this turn. */
  #batch: KeepAlive[] = [];

  constructor(context: ServiceContext, parts: { keeper: LeaseKeeper; quota: Quota }) {
    this.#context = context;
    this.#keeper = parts.keeper;
    this.#quota = parts.quota;
    this.#leader = new LeaderCalls(context);
  }

  async grant(
    options: { id: bigint; ttlSeconds: bigint },
    call: CallContext,
  ): Promise<{ header: Header; id: bigint; ttlSeconds: number }> {
    if (options.ttlSeconds > BigInt(LIMITS.leaseTtlSecondsMax)) throw rpcError("leaseTtlTooLarge");
    this.#quota.check(LEASE_COST_BYTES);
    const least = this.#ttlSecondsMin;
    const ttlSeconds = options.ttlSeconds < BigInt(least) ? least : Number(options.ttlSeconds);
    const id = options.id === 0n ? this.#newId(call.identity) : options.id;
    return this.#context.write({ kind: "leaseGrant", id, ttlSeconds }, call, ({ header }) => ({
      header,
      id,
      ttlSeconds,
    }));
  }

  async revoke(id: bigint, call: CallContext): Promise<{ header: Header }> {
    return this.#context.write(
      { kind: "leaseRevoke", ids: [id], term: undefined },
      call,
      headerOnly,
    );
  }

  keepAlive(
    ids: readonly bigint[],
    call: CallContext,
  ): Promise<{ header: Header; ttlSeconds: readonly number[] }> {
    return new Promise((resolve, reject) => {
      this.#context.checkLeader(call);
      if (this.#leader.stopped) throw rpcError("stopped");
      if (this.#keeper.active) return this.#renewAsLeader(ids, call, { resolve, reject });
      this.#batch.push({ ids, deadline: this.#leader.deadlineOf(call), resolve, reject });
      if (this.#batch.length === 1) this.#context.host.defer(() => this.#sendBatch());
    });
  }

  /** Without a batch of its own: confirmations are batched already. */
  #renewAsLeader(
    ids: readonly bigint[],
    call: CallContext,
    waiting: Pick<KeepAlive, "resolve" | "reject">,
  ): void {
    const header = this.#context.header();
    const confirmed = (): void => {
      const reply = this.#answerConfirmed({ kind: "leaseRenew", ids });
      if (reply.kind === "leaseRenew") waiting.resolve({ header, ttlSeconds: reply.ttlSeconds });
      else this.keepAlive(ids, call).then(waiting.resolve, waiting.reject); // It leads no more.
    };
    this.#context.consensus.confirm(
      { confirmed, failed: waiting.reject },
      call.timeoutMilliseconds,
    );
  }

  async timeToLive(
    options: { id: bigint; keys: boolean },
    call: CallContext,
  ): Promise<{
    header: Header;
    ttlSeconds: number;
    grantedTtlSeconds: number;
    keys: readonly Uint8Array[];
  }> {
    const { state } = this.#context;
    const unknown = { ttlSeconds: -1, grantedTtlSeconds: 0, keys: [] };
    const deadline = this.#leader.deadlineOf(call);
    for (;;) {
      await this.#context.atReadPoint({ serializable: false }, call, () => undefined);
      const lease = state.lessor.lookup(options.id);
      if (lease === undefined) return { header: this.#context.header(), ...unknown };
      const reply = await this.#askLeader({ kind: "leaseRemaining", id: options.id }, deadline);
      if (reply?.kind !== "leaseRemaining") {
        await this.#leader.pause(deadline);
        continue;
      }
      const left = reply.remainingMilliseconds;
      if (left === undefined || left <= 0) return { header: this.#context.header(), ...unknown };
      return {
        header: this.#context.header(),
        ttlSeconds: Math.floor(left / 1000),
        grantedTtlSeconds: lease.ttlSeconds,
        keys: options.keys ? state.lessor.attachedKeys(options.id) : [],
      };
    }
  }

  async leases(call: CallContext): Promise<{ header: Header; ids: readonly bigint[] }> {
    this.#context.checkLeader(call);
    const ids = this.#context.state.lessor.list().map((lease) => lease.id);
    return { header: this.#context.header(), ids };
  }

  /** Answers another member's question, if this one leads and can prove it. */
  async answer(call: LeaseCall): Promise<PeerReply> {
    if (!this.#keeper.active) return { kind: "refused", reason: "notLeader" };
    try {
      return await this.#context.atReadPoint({ serializable: false }, PATIENT, () =>
        this.#answerConfirmed(call),
      );
    } catch {
      return { kind: "refused", reason: "noConfirmation" };
    }
  }

  stop(): void {
    this.#leader.stop();
    this.#failBatch(this.#batch, rpcError("stopped"));
    this.#batch = [];
  }

  /** In the turn of the confirmation: the lead was held after the question arrived. */
  #answerConfirmed(call: LeaseCall): PeerReply {
    if (!this.#keeper.active) return { kind: "refused", reason: "notLeader" };
    const { host, state } = this.#context;
    const now = host.now();
    if (call.kind === "leaseRemaining") {
      return {
        kind: "leaseRemaining",
        remainingMilliseconds: state.lessor.remaining(call.id, now),
      };
    }
    const ttlSeconds = call.ids.map((id) => state.lessor.renew(id, now) ?? 0);
    return { kind: "leaseRenew", ttlSeconds };
  }

  #sendBatch(): void {
    const batch = this.#batch;
    this.#batch = [];
    if (batch.length > 0) void this.#renewBatch(batch);
  }

  /** Never rejects: whatever goes wrong is told to the waiting calls. */
  async #renewBatch(batch: readonly KeepAlive[]): Promise<void> {
    const header = this.#context.header();
    const ids = batch.flatMap((each) => each.ids);
    const deadline = Math.max(...batch.map((each) => each.deadline));
    try {
      for (;;) {
        const reply = await this.#askLeader({ kind: "leaseRenew", ids }, deadline);
        if (reply?.kind === "leaseRenew" && reply.ttlSeconds.length === ids.length) {
          let start = 0;
          for (const each of batch) {
            const end = start + each.ids.length;
            each.resolve({ header, ttlSeconds: reply.ttlSeconds.slice(start, end) });
            start = end;
          }
          return;
        }
        await this.#leader.pause(deadline);
      }
    } catch (error) {
      this.#failBatch(batch, error as Error);
    }
  }

  /** This peer's own answer if it leads, else the leader's; undefined: there was none. */
  #askLeader(call: LeaseCall, deadline: number): Promise<PeerReply | undefined> {
    const { leads } = this.#context.consensus.leadership;
    return leads ? this.answer(call) : this.#leader.ask(call, deadline);
  }

  #failBatch(batch: readonly KeepAlive[], error: Error): void {
    for (const each of batch) each.reject(error);
  }

  /** Etcd's least ttl: one and a half elections, in whole seconds. */
  get #ttlSecondsMin(): number {
    const { electionTicks, tickMilliseconds } = this.#context.config;
    return Math.ceil((1.5 * electionTicks * tickMilliseconds) / 1000);
  }

  /**
   * A positive 63-bit number that isn't taken. For a grant that may be sent again: the same one
   * whenever and wherever it arrives, made of its identity, so that the answer is the first's.
   */
  #newId(identity: WriteIdentity | undefined): bigint {
    const { host, state } = this.#context;
    if (identity !== undefined) {
      const hash = host.sha256();
      hash.update(utf8(`lease ${hexOf(identity.client)} ${identity.sequence}`));
      return positiveId(hash.digest().subarray(0, 8)) | 1n;
    }
    for (;;) {
      const id = positiveId(host.randomBytes(8));
      if (id !== 0n && state.lessor.lookup(id) === undefined) return id;
    }
  }
}

/** The lower 63 bits of 8 bytes. */
function positiveId(bytes: Bytes): bigint {
  let id = 0n;
  for (const byte of bytes) id = (id << 8n) | BigInt(byte);
  return id & 0x7fff_ffff_ffff_ffffn;
}
