/**
 * For how long each of the other members has been connected without a break, looked at once a tick:
 * changes of the members ask it whether enough of them are there.
 */
import { LIMITS } from "../../base/limits.ts";
import type { Host } from "../host.ts";
import type { Member } from "../services.ts";
import type { StateMachine } from "../state/state-machine.ts";

export class MemberHealth {
  readonly #host: Host;
  readonly #state: StateMachine;
  readonly #self: bigint;
  /** When the connection was first seen, of those that are there. */
  #connectedAt = new Map<bigint, number>();

  constructor(host: Host, state: StateMachine, self: bigint) {
    this.#host = host;
    this.#state = state;
    this.#self = self;
  }

  ticked(now: number): void {
    const connectedAt = new Map<bigint, number>();
    for (const { id } of this.#state.members.members) {
      if (this.isConnected(id)) connectedAt.set(id, this.#connectedAt.get(id) ?? now);
    }
    this.#connectedAt = connectedAt;
  }

  isConnected(id: bigint): boolean {
    if (id === this.#self) return true;
    return this.#host.transport.idleMilliseconds(String(id)) !== undefined;
  }

  /** How many of these have been connected for `LIMITS.memberHealthMilliseconds`; this one always is. */
  steadyCount(members: readonly Member[]): number {
    const latest = this.#host.now() - LIMITS.memberHealthMilliseconds;
    const steady = ({ id }: Member): boolean => {
      if (id === this.#self) return true;
      const since = this.#connectedAt.get(id);
      return since !== undefined && since <= latest && this.isConnected(id);
    };
    return members.filter(steady).length;
  }
}
