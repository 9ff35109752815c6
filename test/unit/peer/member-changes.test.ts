/** What the steps of a change make of the members: the same rules for one step as for several. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MemoryBackend } from "../../../shared/backend/memory-backend.ts";
import type { ErrorCode } from "../../../shared/api/errors.ts";
import { MemberTable } from "../../../shared/peer/state/member-table.ts";
import { confChangeOf, stepsOf } from "../../../shared/peer/state/member-steps.ts";
import { changeMembership, isJoint } from "../../../shared/raft/membership.ts";
import { simpleMembership } from "../../../shared/raft/log-store.ts";
import type { Membership } from "../../../shared/raft/types.ts";
import type { MemberCommand, MemberStep } from "../../../shared/wire/command.ts";

const url = (id: number): string => `http://m${id}:2380`;
const add = (id: number, isLearner = false, learnersMax = 1): MemberStep => {
  const [member, peerUrls] = [BigInt(id), [url(id)]];
  return { kind: "memberAdd", member, peerUrls, isLearner, learnersMax };
};
const remove = (id: number): MemberStep => ({ kind: "memberRemove", member: BigInt(id) });
const promote = (id: number): MemberStep => ({ kind: "memberPromote", member: BigInt(id) });
const several = (...steps: readonly MemberStep[]): MemberCommand => {
  return { kind: "memberChange", steps };
};

/** A table over a store of its own, as after so many restarts as one likes. */
class Tested {
  readonly backend = new MemoryBackend();
  table = new MemberTable(this.backend);
  #index = 0;

  constructor(voters: number, learners = 0) {
    const members = Array.from({ length: voters + learners }, (_, place) => {
      const rest = { name: `m${place + 1}`, peerUrls: [url(place + 1)], clientUrls: [] };
      return { id: BigInt(place + 1), isLearner: place >= voters, ...rest };
    });
    this.table.bootstrap(1n, members, { backend: this.backend, version: 2 });
  }

  change(command: MemberCommand): ErrorCode | undefined {
    let code: ErrorCode | undefined;
    this.#apply((writer) => (code = this.table.change(command, writer)?.code));
    return code;
  }

  leave(): void {
    this.#apply((writer) => this.table.leaveJoint(writer));
  }

  get ids(): number[] {
    return this.table.members.map(({ id }) => Number(id));
  }

  /** What was written says the same as what is held. */
  #apply(body: (writer: Parameters<MemberTable["leaveJoint"]>[0]) => void): void {
    this.#index += 1;
    this.backend.apply(this.#index, body);
    const read = new MemberTable(this.backend);
    expect(read.members).toEqual(this.table.members);
    expect(read.membership).toEqual(this.table.membership);
    this.table = read;
  }
}

test("replacing two of three at once: the old ones are members until the joint change ends", () => {
  const tested = new Tested(3, 2);
  expect(tested.change(several(promote(4), promote(5), remove(2), remove(3)))).toBeUndefined();
  expect(tested.ids).toEqual([1, 2, 3, 4, 5]);
  expect(tested.table.membership).toEqual({
    voters: ["1", "4", "5"],
    learners: [],
    votersOutgoing: ["1", "2", "3"],
    learnersNext: [],
    autoLeave: true,
  });
  expect(tested.table.isRemoved(2n)).toBe(false);
  // Nothing else in between, whatever it is.
  for (const command of [add(6), several(remove(1)), remove(2)]) {
    expect(tested.change(command)).toBe("unhealthy");
  }
  tested.leave();
  expect(tested.ids).toEqual([1, 4, 5]);
  expect(tested.table.membership).toEqual(simpleMembership(["1", "4", "5"]));
  expect([2n, 3n].every((id) => tested.table.isRemoved(id))).toBe(true);
  // Twice does no harm.
  tested.leave();
  expect(tested.change(several(add(2), remove(1)))).toBe("memberNotFound");
});

test("where one voter changes, there is no joint change", () => {
  const tested = new Tested(3, 1);
  expect(tested.change(several(promote(4), add(5, true)))).toBeUndefined();
  expect(tested.table.membership).toEqual(simpleMembership(["1", "2", "3", "4"], ["5"]));
  expect(tested.change(several(remove(4), remove(5)))).toBeUndefined();
  expect(tested.ids).toEqual([1, 2, 3]);
});

describe("all or nothing", () => {
  test.each<[ErrorCode, readonly MemberStep[]]>([
    ["memberExist", [remove(2), add(3)]],
    ["memberExist", [add(6), add(6)]],
    ["memberExist", [promote(4), remove(4)]],
    ["memberNotFound", [add(6), remove(9)]],
    ["memberNotFound", [add(6), promote(9)]],
    ["memberNotLearner", [add(6), promote(3)]],
    ["peerUrlExist", [add(6), { ...add(7), peerUrls: [url(6)] } as MemberStep]],
    ["peerUrlExist", [remove(3), { ...add(6), peerUrls: [url(3)] } as MemberStep]],
    ["tooManyLearners", [add(6), add(7, true)]],
    ["tooManyLearners", [promote(4), add(6, true), add(7, true)]],
    ["memberNotEnoughStarted", [remove(1), remove(2), remove(3)]],
  ])("%s, and nothing has changed", (code, steps) => {
    const tested = new Tested(3, 1);
    const before = tested.table.membership;
    expect(tested.change(several(...steps))).toBe(code);
    expect(tested.table.membership).toEqual(before);
    expect(tested.ids).toEqual([1, 2, 3, 4]);
  });

  test("a learner's place is free when it is promoted or removed by the same change", () => {
    expect(new Tested(3, 1).change(several(add(5, true), promote(4)))).toBeUndefined();
    expect(new Tested(3, 1).change(several(add(5, true), remove(4)))).toBeUndefined();
  });
});

/** Each id is a voter, a learner or no member. */
const roles = fc.array(fc.constantFrom("voter", "learner", "none"), { minLength: 6, maxLength: 6 });

test("table and raft agree on every change, in it and behind it", () => {
  fc.assert(
    fc.property(fc.nat({ max: 3 }), fc.nat({ max: 2 }), roles, (voters, learners, wanted) => {
      const tested = new Tested(voters + 1, learners);
      const steps = wanted.flatMap((role, place): MemberStep[] => {
        const id = place + 1;
        const known = tested.table.member(BigInt(id));
        if (known === undefined) return role === "none" ? [] : [add(id, role === "learner", 9)];
        if (role === "none") return [remove(id)];
        return role === "voter" && known.isLearner ? [promote(id)] : [];
      });
      const command = several(...steps);
      const { membership } = tested.table;
      const entered = changeMembership(membership, confChangeOf(stepsOf(command)));
      const code = tested.change(command);
      expect(code === undefined).toBe(entered !== undefined);
      if (entered === undefined) return;
      expect(sorted(tested.table.membership)).toEqual(sorted(entered));
      tested.leave();
      const left = isJoint(entered) ? changeMembership(entered, confChangeOf([])) : entered;
      expect(sorted(tested.table.membership)).toEqual(left && sorted(left));
    }),
  );
});

function sorted({ voters, learners, votersOutgoing, autoLeave }: Membership) {
  const lists = [voters, learners, votersOutgoing].map((list) => list.toSorted());
  return { lists, autoLeave };
}
