/**
 * What all services share: the consensus under them, the state that they read, the header of their
 * answers, and the two ways to an answer: through the log, or after a confirmed read point.
 */
import { rpcError, type RpcError } from "../../api/errors.ts";
import type { Consensus } from "../consensus/consensus.ts";
import type { ProposalOwner } from "../consensus/proposals.ts";
import type { Host } from "../host.ts";
import type { PeerConfig } from "../peer.ts";
import type { CallContext, Header, OpResult, ReadLevel } from "../services.ts";
import type { ApplyResult, StateMachine } from "../state/state-machine.ts";
import type { Command } from "../../wire/command.ts";
import type { Freshness } from "../../wire/link.ts";

export interface Written {
  readonly header: Header;
  readonly result: OpResult | undefined;
}

export class ServiceContext {
  readonly host: Host;
  readonly config: PeerConfig;
  readonly state: StateMachine;
  readonly consensus: Consensus;

  constructor(parts: {
    readonly host: Host;
    readonly config: PeerConfig;
    readonly state: StateMachine;
    readonly consensus: Consensus;
  }) {
    this.host = parts.host;
    this.config = parts.config;
    this.state = parts.state;
    this.consensus = parts.consensus;
  }

  /** `revision`: of the answer; absent: the store's current one. */
  header(revision = this.state.store.revision): Header {
    return {
      clusterId: this.config.clusterId,
      memberId: this.config.memberId,
      revision,
      raftTerm: this.consensus.leadership.term,
    };
  }

  /** Refuses callers that want a leader when there is none. */
  checkLeader(call: CallContext): void {
    if (call.requireLeader && this.consensus.leadership.leader === undefined) {
      throw rpcError("noLeader");
    }
  }

  /**
   * Puts a command into the log and answers what apply made of it. `check` throws if it must not
   * be proposed. One promise for all of it: this is the hot path of writes.
   */
  write<Answer>(
    command: Command,
    call: CallContext,
    answer: (written: Written) => Answer,
    check?: () => void,
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      check?.();
      this.checkLeader(call);
      const owner = new PendingWrite(this, { resolve, reject, answer });
      this.consensus.propose(command, owner, call);
    });
  }

  /**
   * Calls `read` at a linearizable point, or at once if the state at hand will do, with the state's
   * age. `check` throws if it must not be read.
   */
  atReadPoint<Answer>(
    level: ReadLevel,
    call: CallContext,
    read: (ageMilliseconds: number | undefined) => Answer | Promise<Answer>,
    check?: () => void,
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      check?.();
      this.checkLeader(call);
      const serve = (age: number | undefined): void => {
        try {
          resolve(read(age));
        } catch (error) {
          reject(error);
        }
      };
      const { serializable, fresh } = level;
      if (serializable && (fresh === undefined || this.#isFresh(fresh))) {
        return serve(this.consensus.ageMilliseconds());
      }
      const confirmed = (): void => {
        if (fresh !== undefined && !this.#hasReached(fresh)) reject(rpcError("futureRev"));
        else serve(0);
      };
      this.consensus.confirm({ confirmed, failed: reject }, call.timeoutMilliseconds);
    });
  }

  #isFresh(fresh: Freshness): boolean {
    const { maxAgeMilliseconds } = fresh;
    if (!this.#hasReached(fresh)) return false;
    if (maxAgeMilliseconds === undefined) return true;
    const age = this.consensus.ageMilliseconds();
    // Equal may be less than it seems: clocks have steps.
    return age !== undefined && age < maxAgeMilliseconds;
  }

  #hasReached({ atLeastRevision = 0 }: Freshness): boolean {
    return this.state.store.revision >= atLeastRevision;
  }
}

interface WriteCall<Answer> {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: RpcError) => void;
  readonly answer: (written: Written) => Answer;
}

/** A class, since a closure would hold the command too, and with it the chunk that it came in. */
class PendingWrite<Answer> implements ProposalOwner {
  readonly #context: ServiceContext;
  readonly #call: WriteCall<Answer>;

  constructor(context: ServiceContext, call: WriteCall<Answer>) {
    this.#context = context;
    this.#call = call;
  }

  applied(applied: ApplyResult): void {
    const { resolve, reject, answer } = this.#call;
    if (applied.kind === "refused") {
      const outcome = applied.code === "writeForgotten" ? "unknown" : "none";
      return reject(rpcError(applied.code, { outcome }));
    }
    resolve(answer({ header: this.#context.header(applied.revision), result: applied.result }));
  }

  failed(error: RpcError): void {
    this.#call.reject(error);
  }
}
