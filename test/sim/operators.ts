/**
 * Who changes the members: adds learners and voters, promotes, removes (also the leader), replaces,
 * over the API and through any member, while faults go on. An addition whose outcome stays unknown
 * is looked up in the list of members, as a person would.
 */
import { RpcError } from "../../shared/api/errors.ts";
import type { Prng } from "../../shared/base/prng.ts";
import type { ClusterService, MembersAnswer } from "../../shared/peer/services.ts";
import { ANY_CALL } from "./observers.ts";
import type { SimCluster, SimMember } from "./sim-cluster.ts";

const MEMBERS_MAX = 6;
const ANSWER_MILLISECONDS_MAX = 4000;
/** How often, and how long apart, a new learner's promotion is tried. */
const PROMOTIONS_MAX = 5;
const BETWEEN_MILLISECONDS = 500;

type Ask<Answer> = (cluster: ClusterService) => Promise<Answer>;

export class Operators {
  /** Changes that were answered as done. */
  changes = 0;
  readonly #cluster: SimCluster;
  #names: number;

  constructor(cluster: SimCluster) {
    this.#cluster = cluster;
    this.#names = cluster.members.length;
  }

  async add(prng: Prng, options: { isLearner: boolean }): Promise<SimMember | undefined> {
    const { members } = this.#cluster;
    if (members.length >= MEMBERS_MAX) return undefined;
    this.#names += 1;
    const name = `m${this.#names}`;
    const added = await this.#ask(prng, `add ${name}`, (cluster) =>
      cluster.memberAdd({ ...options, peerUrls: [urlOf(name)] }, ANY_CALL),
    );
    // Unknown: it may be in the list later on.
    return added === undefined ? undefined : this.#cluster.admit(added.member.id, name);
  }

  async promote(prng: Prng, { id, name }: SimMember): Promise<boolean> {
    const promote: Ask<MembersAnswer> = (cluster) => cluster.memberPromote(id, ANY_CALL);
    return (await this.#ask(prng, `promote ${name}`, promote)) !== undefined;
  }

  async remove(prng: Prng, member: SimMember): Promise<boolean> {
    const { id, name } = member;
    member.mayLeave = true;
    const remove: Ask<MembersAnswer> = (cluster) => cluster.memberRemove(id, ANY_CALL);
    return (await this.#ask(prng, `remove ${name}`, remove)) !== undefined;
  }

  /** Adds a learner and promotes it as soon as it is ready. */
  async grow(prng: Prng): Promise<void> {
    const added = await this.add(prng, { isLearner: true });
    if (added === undefined) return;
    for (let tries = 0; tries < PROMOTIONS_MAX; tries += 1) {
      await this.#cluster.world.sleep(BETWEEN_MILLISECONDS);
      if (await this.promote(prng, added)) return;
    }
  }

  async replace(prng: Prng, member: SimMember): Promise<void> {
    if (await this.remove(prng, member)) await this.grow(prng);
  }

  /**
   * The members as a linearizable list has them; those that don't run are started. Without an answer
   * any member's own list must do for that: the quorum may wait for one that was never started.
   */
  async settle(prng: Prng): Promise<readonly SimMember[] | undefined> {
    const list = (linearizable: boolean): Promise<MembersAnswer | undefined> =>
      this.#ask(prng, undefined, (cluster) => cluster.memberList({ linearizable }, ANY_CALL));
    const answer = await list(true);
    if (answer !== undefined) return this.#startAll(answer);
    const older = await list(false);
    // A member of an older list may be removed by now, and hear so.
    for (const member of older === undefined ? [] : this.#startAll(older)) member.mayLeave = true;
    return undefined;
  }

  #startAll({ members }: MembersAnswer): readonly SimMember[] {
    return members.map(({ id, peerUrls }) => {
      const known = this.#cluster.members.find((member) => member.id === id);
      return known ?? this.#cluster.admit(id, nameOf(peerUrls));
    });
  }

  /** Asks any member; undefined when it refuses or doesn't answer in time. */
  #ask<Answer>(
    prng: Prng,
    change: string | undefined,
    ask: Ask<Answer>,
  ): Promise<Answer | undefined> {
    const { world, members } = this.#cluster;
    const member = prng.pick(members);
    const { process } = member;
    return new Promise((resolve) => {
      const finish = (answer: Answer | undefined, text: string): void => {
        if (change !== undefined) world.note(`operator: ${change} at ${member.name}: ${text}`);
        resolve(answer);
      };
      const cancel = world.schedule(ANSWER_MILLISECONDS_MAX, () => finish(undefined, "no answer"));
      if (process === undefined) return;
      process.enter(() => {
        const { peer } = member;
        if (peer === undefined) return;
        ask(peer.services.cluster).then(
          (answer) => {
            if (member.process !== process) return;
            cancel();
            if (change !== undefined) this.changes += 1;
            finish(answer, "done");
          },
          (error: unknown) => {
            if (!(error instanceof RpcError)) world.fail(`operator: ${String(error)}`);
            if (member.process !== process) return;
            cancel();
            finish(undefined, error instanceof Error ? error.message : String(error));
          },
        );
      });
    });
  }
}

/** A member's peer URL. */
export function urlOf(name: string): string {
  return `http://${name}:2380`;
}

function nameOf([url]: readonly string[]): string {
  return new URL(url ?? "").hostname;
}
