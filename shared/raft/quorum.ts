/**
 * The arithmetic of majorities, over a simple or a joint membership (thesis sections 3.3 and
 * 4.3). In a joint membership both halves must agree: a value is reached once a majority of each
 * half has reached it, a vote is won once it is won in each.
 */
import { assert } from "../base/assert.ts";

export type VoteOutcome = "won" | "lost" | "pending";

/**
 * The greatest value that a majority has reached. Sorts `values` in place: one a voter. Without
 * voters there is nothing to wait for: Infinity, so that an empty half of a joint membership
 * doesn't count.
 */
export function majorityReached(values: number[]): number {
  const count = values.length;
  if (count === 0) return Infinity;
  // Insertion sort: memberships are small, and this runs once for each acknowledgement.
  for (let end = 1; end < count; end += 1) {
    const value = values[end] as number;
    let position = end;
    while (position > 0 && (values[position - 1] as number) > value) {
      values[position] = values[position - 1] as number;
      position -= 1;
    }
    values[position] = value;
  }
  const majority = Math.floor(count / 2) + 1;
  return values[count - majority] as number;
}

/** The outcome among `voters`; `votes` lacks those that haven't answered. */
export function voteOutcome(
  voters: readonly string[],
  votes: ReadonlyMap<string, boolean>,
): VoteOutcome {
  if (voters.length === 0) return "won";
  let granted = 0;
  let missing = 0;
  for (const voter of voters) {
    const vote = votes.get(voter);
    if (vote === undefined) missing += 1;
    else if (vote) granted += 1;
  }
  const majority = Math.floor(voters.length / 2) + 1;
  assert(granted + missing <= voters.length, "more votes than voters");
  if (granted >= majority) return "won";
  return granted + missing >= majority ? "pending" : "lost";
}

/** Both halves must be won; one that is lost loses the vote. */
export function jointOutcome(incoming: VoteOutcome, outgoing: VoteOutcome): VoteOutcome {
  if (incoming === outgoing) return incoming;
  if (incoming === "lost" || outgoing === "lost") return "lost";
  return "pending";
}
