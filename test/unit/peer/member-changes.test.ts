/** From one membership to another by single changes: how raft catches up with a state that was installed whole. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { changesBetween } from "../../../shared/peer/consensus/member-changes.ts";
import { simpleMembership } from "../../../shared/raft/log-store.ts";
import { changeMembership, isJoint } from "../../../shared/raft/membership.ts";

/** Each id is a voter, a learner or no member; there is always a voter. */
const membership = fc
  .array(fc.constantFrom("voter", "learner", "none"), { minLength: 1, maxLength: 7 })
  .map((roles) => {
    const of = (role: string): string[] =>
      roles.flatMap((each, place) => (each === role ? [String(place + 1)] : []));
    const voters = of("voter");
    return simpleMembership(voters.length > 0 ? voters : ["99"], of("learner"));
  });

test("every membership is reached from every other, never through a joint one", () => {
  fc.assert(
    fc.property(membership, membership, (from, to) => {
      let current = from;
      for (const change of changesBetween(from, to)) {
        const next = changeMembership(current, change);
        if (next === undefined) throw new Error("a change that is not valid");
        expect(isJoint(next)).toBe(false);
        current = next;
      }
      expect(current.voters.toSorted()).toEqual(to.voters.toSorted());
      expect(current.learners.toSorted()).toEqual(to.learners.toSorted());
    }),
  );
});
