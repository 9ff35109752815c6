/** raft: the parts of the core by themselves: majorities, windows, progress, writes under way. */
import { describe, expect, test } from "vitest";
import { EMPTY } from "../../../shared/base/bytes.ts";
import { Inflights } from "../../../shared/raft/inflights.ts";
import { simpleMembership } from "../../../shared/raft/log-store.ts";
import { changeMembership } from "../../../shared/raft/membership.ts";
import { MemoryLog } from "../../../shared/raft/memory-log.ts";
import { PendingWrites } from "../../../shared/raft/pending-writes.ts";
import { Progress } from "../../../shared/raft/progress.ts";
import { jointOutcome, majorityReached, voteOutcome } from "../../../shared/raft/quorum.ts";
import { RaftLog } from "../../../shared/raft/raft-log.ts";
import type { ConfChange, Entry } from "../../../shared/raft/types.ts";

function entry(term: number, index: number): Entry {
  return { term, index, kind: "normal", data: EMPTY };
}

function change(steps: string, transition: "auto" | "explicit" = "auto"): ConfChange {
  const parsed = steps.split(" ").filter(Boolean);
  return {
    steps: parsed.map((each) => {
      const [action, id] = each.split(":") as [ConfChange["steps"][number]["action"], string];
      return { action, id };
    }),
    transition,
    context: EMPTY,
  };
}

describe("quorum", () => {
  test("the greatest value that a majority has reached", () => {
    expect(majorityReached([5])).toBe(5);
    expect(majorityReached([9, 1])).toBe(1);
    expect(majorityReached([3, 9, 5])).toBe(5);
    expect(majorityReached([1, 2, 3, 4])).toBe(2);
    expect(majorityReached([7, 0, 7, 0, 7])).toBe(7);
    expect(majorityReached([])).toBe(Infinity);
  });

  test("votes are won, lost or open; a joint one needs both halves", () => {
    const votes = new Map([
      ["1", true],
      ["2", false],
    ]);
    expect(voteOutcome(["1", "2", "3"], votes)).toBe("pending");
    expect(voteOutcome(["1", "2"], votes)).toBe("lost");
    expect(voteOutcome(["1"], votes)).toBe("won");
    expect(jointOutcome("won", "pending")).toBe("pending");
    expect(jointOutcome("pending", "lost")).toBe("lost");
    expect(jointOutcome("won", "won")).toBe("won");
  });
});

describe("membership", () => {
  const three = simpleMembership(["1", "2", "3"]);

  test("one voter changes directly, several through a joint membership that can be left", () => {
    expect(changeMembership(three, change("addVoter:4"))).toEqual(
      simpleMembership(["1", "2", "3", "4"]),
    );
    const joint = changeMembership(three, change("remove:1 addVoter:4"));
    expect(joint).toEqual({
      voters: ["2", "3", "4"],
      learners: [],
      votersOutgoing: ["1", "2", "3"],
      learnersNext: [],
      autoLeave: true,
    });
    expect(joint && changeMembership(joint, change(""))).toEqual(simpleMembership(["2", "3", "4"]));
  });

  test("a voter becomes a learner only when it has left the old half", () => {
    const joint = changeMembership(three, change("addLearner:3", "explicit"));
    expect(joint).toMatchObject({ voters: ["1", "2"], learners: [], learnersNext: ["3"] });
    expect(joint && changeMembership(joint, change(""))).toEqual(
      simpleMembership(["1", "2"], ["3"]),
    );
  });

  test("changes that are not valid", () => {
    expect(changeMembership(simpleMembership(["1"]), change("remove:1"))).toBeUndefined();
    expect(changeMembership(three, change(""))).toBeUndefined();
    const joint = changeMembership(three, change("addVoter:4", "explicit"));
    expect(joint && changeMembership(joint, change("addVoter:5"))).toBeUndefined();
  });
});

describe("in-flight window", () => {
  test("is full by count or by bytes, and freed up to an index", () => {
    const window = new Inflights({ countMax: 3, bytesMax: 100 });
    window.add(5, 10);
    window.add(7, 95);
    expect(window.full).toBe(true);
    window.freeTo(6);
    expect([window.full, window.count]).toEqual([false, 1]);
    window.freeTo(7);
    window.add(8, 0);
    window.add(9, 0);
    window.add(10, 0);
    expect(window.full).toBe(true);
    expect(() => window.add(11, 0)).toThrow("full");
    window.clear();
    expect([window.full, window.count]).toEqual([false, 0]);
  });

  test("stays right over many turns", () => {
    const window = new Inflights({ countMax: 100, bytesMax: 1000 });
    for (let index = 1; index <= 1000; index += 1) {
      window.add(index, 10);
      if (window.full) window.freeTo(index - 50);
    }
    window.freeTo(1000);
    window.add(1001, 999);
    expect([window.count, window.full]).toEqual([1, false]);
  });
});

describe("progress", () => {
  function progress(): Progress {
    return new Progress("2", 11, new Inflights({ countMax: 10, bytesMax: 1000 }));
  }

  test("a stale rejection changes nothing, a probe's goes back by the hint", () => {
    const each = progress();
    expect(each.rejected(5, 3)).toBe(false);
    expect(each.rejected(10, 4)).toBe(true);
    expect(each.next).toBe(5);
    each.accepted(4);
    each.becomeReplicate();
    expect(each.rejected(4, 2)).toBe(false);
    each.sentAppend({ count: 3, bytes: 3, commit: 0 });
    expect(each.rejected(7, 4)).toBe(true);
    expect([each.state, each.next]).toEqual(["probe", 5]);
  });

  test("an append is due for entries, for news of the commit, or on suspicion of a loss", () => {
    const each = progress();
    each.accepted(10);
    each.becomeReplicate();
    expect(each.wantsAppend(10, 0)).toBe(false);
    expect(each.wantsAppend(11, 0)).toBe(true);
    expect(each.wantsAppend(10, 9)).toBe(true);
    each.sentAppend({ count: 1, bytes: 1, commit: 10 });
    expect(each.wantsAppend(11, 10)).toBe(false);
    each.heartbeatTicked();
    each.heartbeatTicked();
    each.heartbeatAnswered();
    expect(each.wantsAppend(11, 10)).toBe(true);
  });
});

describe("writes under way", () => {
  const nothing = { lastIndex: 0, snapshotIndex: 0, term: 0, vote: undefined };

  test("an overwrite shortens the claims before it (the ABA problem)", () => {
    const writes = new PendingWrites();
    writes.add(1, { ...nothing, lastIndex: 5 });
    writes.overwritten(4);
    writes.add(2, { ...nothing, lastIndex: 4 });
    writes.overwritten(4);
    writes.add(3, { ...nothing, lastIndex: 5 });
    expect(writes.settle(1)?.lastIndex).toBe(3);
    expect(writes.settle(2)?.lastIndex).toBe(3);
    expect(writes.settle(3)?.lastIndex).toBe(5);
    expect(writes.settle(3)).toBeUndefined();
  });

  test("the log counts as durable only what no write under way will replace", () => {
    const disk = new MemoryLog();
    const reader = Object.assign(disk, { snapshot: () => undefined });
    const log = new RaftLog(reader, { commit: 0, applied: 0, committedBytesMax: 100 });
    const rewrite = (sequence: number, entries: readonly Entry[]): void => {
      log.merge(entries);
      const taken = log.takeEntries();
      log.handedOut(sequence, { ...nothing, lastIndex: taken.at(-1)?.index ?? 0 });
      disk.append(taken);
    };
    rewrite(1, [entry(1, 1), entry(1, 2)]);
    rewrite(2, [entry(2, 2)]);
    rewrite(3, [entry(1, 2)]);
    log.persisted(1);
    expect(log.durableIndex).toBe(1);
    log.persisted(2);
    expect(log.durableIndex).toBe(1);
    log.persisted(3);
    expect(log.durableIndex).toBe(2);
    expect(log.termOf(2)).toBe(1);
  });
});
