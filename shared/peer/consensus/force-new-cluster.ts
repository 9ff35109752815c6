/**
 * A cluster that has lost its quorum for good goes on with one member: entries that remove the others
 * are put behind its log and declared committed, all that is before them included. That breaks
 * raft's rules on purpose. It is safe only because the operator vouches that the others are gone;
 * they are in the list of removed ids then, so one that comes back all the same is refused.
 *
 * Entries that this member isn't sure were committed are kept: some may have been acknowledged to
 * clients, and there is nobody left who could hold others in their place.
 */
import { assert } from "../../base/assert.ts";
import { EMPTY } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import type { LogStore } from "../../raft/log-store.ts";
import type { Entry, HardState } from "../../raft/types.ts";
import { commandOf, encodeCommand } from "../../wire/command-codec.ts";
import type { MemberCommand } from "../../wire/command.ts";
import type { PeerConfig } from "../peer.ts";
import { stepsOf } from "../state/member-steps.ts";
import type { StateMachine } from "../state/state-machine.ts";

export interface ForcedLog {
  /** To be appended: they replace what the log holds from the first one's index on. */
  readonly entries: readonly Entry[];
  readonly hardState: HardState;
  /** The ids of the members that are removed. */
  readonly removed: readonly bigint[];
}

/** Undefined when this member is alone already. */
export function forcedLog(
  log: LogStore,
  { memberId }: Pick<PeerConfig, "memberId">,
  stored: { readonly state: StateMachine; readonly hardState: HardState },
): ForcedLog | undefined {
  const { state, hardState } = stored;
  const others = new Set<bigint>();
  for (const { id } of state.members.members) if (id !== memberId) others.add(id);
  let last = log.lastIndex;
  // Nothing else is valid before its end, which is not in the log, or not known to be committed.
  let joint = state.members.isJoint;
  for (const entry of membershipEntries(log, state.appliedIndex + 1)) {
    const steps = entry.data.length === 0 ? [] : stepsOf(commandOf(entry.data) as MemberCommand);
    const removes = steps.some(
      ({ kind, member }) => kind === "memberRemove" && member === memberId,
    );
    if (removes && entry.index > hardState.commit) {
      last = entry.index - 1;
      break;
    }
    for (const { kind, member } of steps) {
      if (kind === "memberAdd" && member !== memberId) others.add(member);
    }
    joint = entry.data.length === 0 ? false : joint || steps.length > 1;
  }
  if (others.size === 0) return undefined;
  const changes: MemberCommand[] = [...others].map((member) => ({ kind: "memberRemove", member }));
  // A learner couldn't lead; for a voter this one is refused at apply, without effect.
  changes.unshift({ kind: "memberPromote", member: memberId });
  const { term } = hardState;
  const data = changes.map((command) =>
    encodeCommand({ request: undefined, identity: undefined, command }),
  );
  if (joint) data.unshift(EMPTY);
  const entries = data.map((bytes, position): Entry => {
    return { term, index: last + 1 + position, kind: "membership", data: bytes };
  });
  assert((log.termOf(last) ?? 0) <= term, "the log is not ahead of the term");
  return {
    entries,
    hardState: { ...hardState, commit: last + entries.length },
    removed: [...others],
  };
}

function* membershipEntries(log: LogStore, from: number): Generator<Entry> {
  let next = Math.max(from, log.firstIndex);
  while (next <= log.lastIndex) {
    const entries = log.slice(next, log.lastIndex + 1, LIMITS.committedBytesMax);
    for (const entry of entries) {
      if (entry.kind === "membership") yield entry;
    }
    next += entries.length;
  }
}
