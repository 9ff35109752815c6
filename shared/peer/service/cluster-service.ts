/**
 * The cluster's members: who they are, and changes of them. Checks that look at connections or at
 * the leader's knowledge come before the proposal; those that must come out alike everywhere are
 * apply's (`MemberTable.change`). Answers carry no revision, as etcd's don't.
 */
import { errorCodeOf, rpcError, RpcError } from "../../api/errors.ts";
import { LIMITS } from "../../base/limits.ts";
import { versionNeeded } from "../../wire/command-codec.ts";
import type { MemberCommand, MemberStep } from "../../wire/command.ts";
import type { PeerCall, PeerReply } from "../../wire/peer-call.ts";
import type {
  CallContext,
  ClusterService,
  Member,
  MembersAnswer,
  MembersChange,
} from "../services.ts";
import type { ServiceContext } from "./context.ts";
import { LeaderCalls, PATIENT } from "./leader-calls.ts";
import type { MemberHealth } from "./member-health.ts";
import { checkedPeerUrls, memberIdOf } from "./peer-urls.ts";
import { checkAdd, checkPromote, checkRemove, checkSteps } from "./reconfig-checks.ts";

type LearnerCall = Extract<PeerCall, { kind: "memberPromote" | "learnersReady" }>;

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
    const promote = { kind: "memberPromote", member: id } as const;
    const answer = await this.#byLeader(promote, call, () => this.#promoteAsLeader(id, call));
    // Another leader has applied it; this member may not have.
    return answer ?? this.memberList({ linearizable: true }, call);
  }

  async memberChange(
    change: MembersChange,
    call: CallContext,
  ): Promise<MembersAnswer & { added: readonly Member[] }> {
    const steps = this.#stepsOf(change);
    const { promote } = change;
    if (promote.length > 0) {
      const ready = { kind: "learnersReady", members: promote } as const;
      await this.#byLeader(ready, call, () => this.#judgeLearners(promote));
    }
    const { memberId: self, strictReconfigCheck } = this.#context.config;
    if (strictReconfigCheck) checkSteps(this.#members, steps, { self, health: this.#health });
    const answer = await this.#change({ kind: "memberChange", steps }, call);
    const added = steps.flatMap((step) => {
      if (step.kind !== "memberAdd") return [];
      const { member: id, peerUrls, isLearner } = step;
      return [{ id, name: "", peerUrls, clientUrls: [], isLearner }];
    });
    return { ...answer, added };
  }

  isLearner(): boolean {
    const { state, config } = this.#context;
    return state.members.member(config.memberId)?.isLearner === true;
  }

  /** Answers a member that was asked to promote learners, and doesn't lead. */
  async answer(call: LearnerCall): Promise<PeerReply> {
    if (!this.#context.consensus.leadership.leads) return { kind: "refused", reason: "notLeader" };
    const { kind } = call;
    try {
      if (kind === "learnersReady") this.#judgeLearners(call.members);
      else await this.#promoteAsLeader(call.member, PATIENT);
      return { kind, refusal: "" };
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      return { kind, refusal: error.message };
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
    this.#judgeLearners([id]);
    if (this.#context.config.strictReconfigCheck) checkPromote(this.#members);
    return this.#change({ kind: "memberPromote", member: id }, call);
  }

  /** As the leader; throws unless their logs are nearly as long as its own. */
  #judgeLearners(ids: readonly bigint[]): void {
    const { progress, id: self } = this.#context.consensus.raft.status();
    const own = progress.get(self);
    if (own === undefined) throw rpcError("notLeader");
    for (const id of ids) {
      const learner = progress.get(String(id));
      if (learner === undefined) throw rpcError("memberNotFound");
      if (learner.match < own.match * LIMITS.learnerReadyShare) throw rpcError("learnerNotReady");
    }
  }

  /**
   * The leader, whoever it is by then, does it: this member (`here`, whose result is returned), or
   * another one. Throws the leader's refusal.
   */
  async #byLeader<Result>(
    question: LearnerCall,
    call: CallContext,
    here: () => Result,
  ): Promise<Result | undefined> {
    const deadline = this.#leader.deadlineOf(call);
    for (;;) {
      if (this.#context.consensus.leadership.leads) return here();
      const reply = await this.#leader.ask(question, deadline);
      if (reply?.kind === question.kind) {
        if (reply.refusal !== "") throw refusalOf(reply.refusal);
        return undefined;
      }
      await this.#leader.pause(deadline);
    }
  }

  /** The steps that were asked for, as they are proposed; throws for what is no change. */
  #stepsOf({ add, promote, remove }: MembersChange): readonly MemberStep[] {
    const count = add.length + promote.length + remove.length;
    const named = new Set([...promote, ...remove]);
    if (count === 0 || count > LIMITS.memberStepsMax || named.size + add.length < count) {
      const most = LIMITS.memberStepsMax;
      const text = `a change names 1 to ${most} members, each of them once`;
      throw new RpcError("invalidArgument", text);
    }
    // An older leader doesn't know the question below.
    const version = versionNeeded("memberChange", false);
    if (version > this.#context.state.members.version) throw rpcError("notCapable");
    const { learnersMax } = this.#context.config;
    return [
      ...add.map(({ peerUrls, isLearner }): MemberStep => {
        const checked = checkedPeerUrls(peerUrls);
        if (checked === undefined) throw rpcError("memberBadUrls");
        const member = this.#newId(checked);
        return { kind: "memberAdd", member, peerUrls: checked, isLearner, learnersMax };
      }),
      ...promote.map((member): MemberStep => ({ kind: "memberPromote", member })),
      ...remove.map((member): MemberStep => ({ kind: "memberRemove", member })),
    ];
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
