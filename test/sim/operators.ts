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
  /** Of those, several steps at once. */
  jointChanges = 0;
  readonly #cluster: SimCluster;
  #names: number;
  /** Which member is asked for the list, counted up at each that doesn't answer. */
  #asked = 0;

  constructor(cluster: SimCluster) {
    this.#cluster = cluster;
    this.#names = cluster.members.length;
  }

  async add(prng: Prng, options: { isLearner: boolean }): Promise<SimMember | undefined> {
    const { members } = this.#cluster;
    if (members.length >= MEMBERS_MAX) return undefined;
    const name = this.#newName();
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

  /** Several at once, one of each at most: a learner's vote, a new member, the end of another. */
  async changeSeveral(
    prng: Prng,
    wanted: {
      promote: SimMember | undefined;
      remove: readonly SimMember[];
      add: "voter" | "learner" | undefined;
    },
  ): Promise<boolean> {
    const { promote, remove, add } = wanted;
    const room = this.#cluster.members.length < MEMBERS_MAX;
    const name = add === undefined || !room ? undefined : this.#newName();
    const isLearner = add === "learner";
    for (const member of remove) member.mayLeave = true;
    const parts = [
      ...(name === undefined ? [] : [`add ${name}`]),
      ...(promote === undefined ? [] : [`promote ${promote.name}`]),
      ...remove.map((member) => `remove ${member.name}`),
    ];
    const change = {
      add: name === undefined ? [] : [{ isLearner, peerUrls: [urlOf(name)] }],
      promote: promote === undefined ? [] : [promote.id],
      remove: remove.map(({ id }) => id),
    };
    const answer = await this.#ask(prng, parts.join(" and "), (cluster) =>
      cluster.memberChange(change, ANY_CALL),
    );
    for (const { id, peerUrls } of answer?.added ?? []) this.#cluster.admit(id, nameOf(peerUrls));
    if (answer !== undefined && parts.length > 1) this.jointChanges += 1;
    return answer !== undefined;
  }

  /** Adds a learner and promotes it as soon as it is ready, at once with another one's removal. */
  async swap(prng: Prng, leaving: SimMember): Promise<void> {
    const added = await this.add(prng, { isLearner: true });
    if (added === undefined) return;
    for (let tries = 0; tries < PROMOTIONS_MAX; tries += 1) {
      await this.#cluster.world.sleep(BETWEEN_MILLISECONDS);
      const wanted = { promote: added, remove: [leaving], add: undefined };
      if (await this.changeSeveral(prng, wanted)) return;
    }
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
   * any member's own list must do for that: the quorum may wait for one that was never started. One
   * member is asked after the other, until one answers: of those that are left, some may have been
   * removed and never hear so, where all that they know are gone.
   */
  async settle(prng: Prng): Promise<readonly SimMember[] | undefined> {
    const { members } = this.#cluster;
    const member = members[this.#asked % members.length] ?? prng.pick(members);
    const list = (linearizable: boolean): Promise<MembersAnswer | undefined> => {
      const ask: Ask<MembersAnswer> = (cluster) => cluster.memberList({ linearizable }, ANY_CALL);
      return this.#askAt(member, undefined, ask);
    };
    const answer = await list(true);
    if (answer !== undefined) return this.#startAll(answer);
    this.#asked += 1;
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

  #newName(): string {
    this.#names += 1;
    return `m${this.#names}`;
  }

  /** Asks any member; undefined when it refuses or doesn't answer in time. */
  #ask<Answer>(
    prng: Prng,
    change: string | undefined,
    ask: Ask<Answer>,
  ): Promise<Answer | undefined> {
    return this.#askAt(prng.pick(this.#cluster.members), change, ask);
  }

  #askAt<Answer>(
    member: SimMember,
    change: string | undefined,
    ask: Ask<Answer>,
  ): Promise<Answer | undefined> {
    const { world } = this.#cluster;
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
