/**
 * Known bugs, put into the simulated world around the production peer: the proof that the checkers see what they are
 * for (`mutants.test.ts` runs them all).
 */
export const MUTANTS = [
  /** The log tells that writes are durable before they are. */
  "ackBeforeDurable",
  /** The backend tells that everything visible is durable, and loses it. */
  "durableTooEarly",
  /** After a restart the backend's index lies behind its content: entries are applied again. */
  "applyTwice",
  /** Linearizable reads are answered from the local state, without a round to the quorum. */
  "readWithoutQuorum",
  /** Forwarded proposals may arrive twice. */
  "duplicateProposals",
  /** A member's clock runs three times as fast as it should: leases end early. */
  "fastClock",
] as const;

export type Mutant = (typeof MUTANTS)[number];
