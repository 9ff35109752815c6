/**
 * What all services share: the consensus under them, the state that they read, the header of their
 * answers, and the two ways to an answer: through the log, or after a confirmed read point.
 */
import { rpcError, type RpcError } from "../../api/errors.ts";
import type { Consensus } from "../consensus/consensus.ts";
import type { ProposalOwner } from "../consensus/proposals.ts";
import type { Host } from "../host.ts";
import type { PeerConfig } from "../peer.ts";
import type { CallContext, Header, OpResult } from "../services.ts";
import type { ApplyResult, StateMachine } from "../state/state-machine.ts";
import type { Command } from "../../wire/command.ts";

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
   * Calls `read` at a linearizable point, or at once if any state will do. `check` throws if it
   * must not be read.
   */
  atReadPoint<Answer>(
    options: { readonly serializable: boolean },
    call: CallContext,
    read: () => Answer | Promise<Answer>,
    check?: () => void,
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      check?.();
      this.checkLeader(call);
      const serve = (): void => {
        try {
          resolve(read());
        } catch (error) {
          reject(error);
        }
      };
      if (options.serializable) return serve();
      this.consensus.confirm({ confirmed: serve, failed: reject }, call.timeoutMilliseconds);
    });
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
