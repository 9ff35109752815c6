/**
 * What only the leader can answer, from whichever member was asked: the question is put to the
 * leader of the moment, again and again, until it answers or the time is over.
 */
import { rpcError } from "../../api/errors.ts";
import type { PeerCall, PeerReply } from "../../wire/peer-call.ts";
import type { CallContext } from "../services.ts";
import type { ServiceContext } from "./context.ts";

/** Between two attempts (etcd: 50 ms). */
const RETRY_MILLISECONDS = 50;

/** A call whose time whoever makes it keeps itself, as a member does that asks the leader. */
export const PATIENT: CallContext = {
  timeoutMilliseconds: undefined,
  requireLeader: false,
  onCancel: () => {},
};

export class LeaderCalls {
  readonly #context: ServiceContext;
  #stopped = false;

  constructor(context: ServiceContext) {
    this.#context = context;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** When whoever asks on behalf of `call` gives up. */
  deadlineOf(call: CallContext): number {
    const { host, consensus } = this.#context;
    const limit = consensus.requestMilliseconds;
    return host.now() + Math.min(limit, call.timeoutMilliseconds ?? limit);
  }

  /** Undefined: there is no leader, or no answer; ask again after a pause, perhaps another one. */
  async ask(call: PeerCall, deadline: number): Promise<PeerReply | undefined> {
    const { consensus, host } = this.#context;
    const { leader } = consensus.leadership;
    if (leader === undefined) return undefined;
    try {
      return await host.transport.call(leader, call, Math.max(1, deadline - host.now()));
    } catch {
      return undefined;
    }
  }

  /** Throws `timeout` if the next attempt would be too late, and `stopped` once the peer stops. */
  async pause(deadline: number): Promise<void> {
    const { host } = this.#context;
    if (this.#stopped) throw rpcError("stopped");
    if (host.now() + RETRY_MILLISECONDS > deadline) throw rpcError("timeout");
    await new Promise<void>((resolve) => {
      host.schedule(RETRY_MILLISECONDS, resolve);
    });
  }

  stop(): void {
    this.#stopped = true;
  }
}
