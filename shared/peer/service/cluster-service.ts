/**
 * The cluster's members: who they are, and changes of them. Checks that look at connections or at
 * the leader's knowledge come before the proposal; those that must come out alike everywhere are
 * apply's (`MemberTable.change`). Answers carry no revision, as etcd's don't.
 */
import { errorCodeOf, rpcError, RpcError } from "../../api/errors.ts";
import { LIMITS } from "../../base/limits.ts";
import type { MemberCommand } from "../../wire/command.ts";
import type { PeerCall, PeerReply } from "../../wire/peer-call.ts";
import type { CallContext, ClusterService, Member, MembersAnswer } from "../services.ts";
import type { ServiceContext } from "./context.ts";
import { LeaderCalls, PATIENT } from "./leader-calls.ts";
import type { MemberHealth } from "./member-health.ts";
import { checkedPeerUrls, memberIdOf } from "./peer-urls.ts";
import { checkAdd, checkPromote, checkRemove } from "./reconfig-checks.ts";

type PromoteCall = Extract<PeerCall, { kind: "memberPromote" }>;

export class ClusterMembers implements ClusterService {
  readonly #context: ServiceContext;
  readonly #health: MemberHealth;
  readonly #leader: LeaderCalls;

  constructor(context: ServiceContext, health: MemberHealth) {
    this.#context = context;
    this.#health = health;
    this.#leader = new LeaderCalls(context);
  }

  memberList(options: { linearizable: boolean }, call: CallContext): Promise<MembersAnswer> {
    const serializable = !options.linearizable;
    return this.#context.atReadPoint({ serializable }, call, () => this.#answer());
  }

  async memberAdd(
    options: { peerUrls: readonly string[]; isLearner: boolean },
    call: CallContext,
  ): Promise<MembersAnswer & { member: Member }> {
    const { isLearner } = options;
    const { config } = this.#context;
    const peerUrls = checkedPeerUrls(options.peerUrls);
    if (peerUrls === undefined) throw rpcError("memberBadUrls");
    if (config.strictReconfigCheck) checkAdd(this.#members, { isLearner, health: this.#health });
    const id = this.#newId(peerUrls);
    const { learnersMax } = config;
    const answer = await this.#change(
      { kind: "memberAdd", member: id, peerUrls, isLearner, learnersMax },
      call,
    );
    return { ...answer, member: { id, name: "", peerUrls, clientUrls: [], isLearner } };
  }

  async memberRemove(id: bigint, call: CallContext): Promise<MembersAnswer> {
    const { config } = this.#context;
    if (config.strictReconfigCheck) {
      checkRemove(this.#members, { id, self: config.memberId, health: this.#health });
    }
    return this.#change({ kind: "memberRemove", member: id }, call);
  }

  async memberUpdate(
    options: { id: bigint; peerUrls: readonly string[] },
    call: CallContext,
  ): Promise<MembersAnswer> {
    const peerUrls = checkedPeerUrls(options.peerUrls);
    if (peerUrls === undefined) throw rpcError("memberBadUrls");
    return this.#change({ kind: "memberUpdate", member: options.id, peerUrls }, call);
  }

  async memberPromote(id: bigint, call: CallContext): Promise<MembersAnswer> {
    const { consensus, host } = this.#context;
    const limit = consensus.requestMilliseconds;
    const deadline = host.now() + Math.min(limit, call.timeoutMilliseconds ?? limit);
    for (;;) {
      if (consensus.leadership.leads) return this.#promoteAsLeader(id, call);
      const reply = await this.#leader.ask({ kind: "memberPromote", member: id }, deadline);
      if (reply?.kind === "memberPromote") {
        if (reply.refusal !== "") throw refusalOf(reply.refusal);
        // The leader has applied it; this member may not have.
        return this.memberList({ linearizable: true }, call);
      }
      await this.#leader.pause(deadline);
    }
  }

  isLearner(): boolean {
    const { state, config } = this.#context;
    return state.members.member(config.memberId)?.isLearner === true;
  }

  /** Answers a member that was asked to promote a learner, and doesn't lead. */
  async answer(call: PromoteCall): Promise<PeerReply> {
    if (!this.#context.consensus.leadership.leads) return { kind: "refused", reason: "notLeader" };
    try {
      await this.#promoteAsLeader(call.member, PATIENT);
      return { kind: "memberPromote", refusal: "" };
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      return { kind: "memberPromote", refusal: error.message };
    }
  }

  stop(): void {
    this.#leader.stop();
  }

  get #members(): readonly Member[] {
    return this.#context.state.members.members;
  }

  #answer(): MembersAnswer {
    return { header: this.#context.header(0), members: this.#members };
  }

  #change(command: MemberCommand, call: CallContext): Promise<MembersAnswer> {
    return new Promise((resolve, reject) => {
      this.#context.checkLeader(call);
      this.#context.consensus.changeMembers(
        command,
        {
          applied: (result) => {
            if (result.kind === "refused") reject(rpcError(result.code));
            else resolve(this.#answer());
          },
          failed: reject,
        },
        call.timeoutMilliseconds,
      );
    });
  }

  #promoteAsLeader(id: bigint, call: CallContext): Promise<MembersAnswer> {
    const { consensus, config } = this.#context;
    const { progress, id: self } = consensus.raft.status();
    const own = progress.get(self);
    if (own === undefined) throw rpcError("notLeader");
    const learner = progress.get(String(id));
    if (learner === undefined) throw rpcError("memberNotFound");
    if (learner.match < own.match * LIMITS.learnerReadyShare) throw rpcError("learnerNotReady");
    if (config.strictReconfigCheck) checkPromote(this.#members);
    return this.#change({ kind: "memberPromote", member: id }, call);
  }

  /** A member that comes back to its old address in the same second is a new one all the same. */
  #newId(peerUrls: readonly string[]): bigint {
    const { members } = this.#context.state;
    let time = this.#context.host.wallClock();
    for (;;) {
      const id = memberIdOf(peerUrls, time);
      if (id !== 0n && members.member(id) === undefined && !members.isRemoved(id)) return id;
      time += 1000;
    }
  }
}

/** The leader's refusal, as this member's. */
function refusalOf(text: string): RpcError {
  const code = errorCodeOf(text);
  return code === undefined ? new RpcError("unknown", text) : rpcError(code);
}
