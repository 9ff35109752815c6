/** A leader's memory of what was forwarded to it. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  ForwardedProposals,
  SequenceWindow,
} from "../../../shared/peer/consensus/forwarded-proposals.ts";
import type { ProposedEntry, Refusal } from "../../../shared/raft/types.ts";
import { encodeCommand } from "../../../shared/wire/command-codec.ts";

const SIZE = 16;

/** What `followers` forwarded, taken by a leader whose raft takes it, or refuses. */
class Leader {
  readonly forwarded = new ForwardedProposals();
  readonly log: ProposedEntry[] = [];
  term = 1;
  refusal: Refusal | undefined;

  takeForwarded(term: number, entries: readonly ProposedEntry[]): Refusal | undefined {
    if (term !== this.term) return "noLeader";
    if (this.refusal === undefined) this.log.push(...entries);
    return this.refusal;
  }

  take(entries: readonly ProposedEntry[], term = this.term): number {
    const before = this.log.length;
    this.forwarded.take(this, { term, entries });
    return this.log.length - before;
  }
}

function entry(sequence: number, member = 1n, incarnation = 7): ProposedEntry {
  const command = { kind: "compact", revision: sequence } as const;
  const request = { member, incarnation, sequence };
  return { kind: "normal", data: encodeCommand({ request, identity: undefined, command }) };
}

test("a copy is not taken, whatever comes with it; the same from another incarnation is", () => {
  const leader = new Leader();
  expect(leader.take([entry(1), entry(2)])).toBe(2);
  expect(leader.take([entry(2), entry(3), entry(1)])).toBe(1);
  expect(leader.take([entry(3)])).toBe(0);
  expect(leader.take([entry(2, 1n, 8), entry(3, 1n, 8)])).toBe(2);
  expect(leader.take([entry(2, 2n)])).toBe(1);
});

test("what was refused, or belongs to another term, may come again", () => {
  const leader = new Leader();
  leader.refusal = "transferring";
  expect(leader.take([entry(1)])).toBe(0);
  leader.refusal = undefined;
  expect(leader.take([entry(1)], 2)).toBe(0);
  expect(leader.take([entry(1)])).toBe(1);
  leader.term = 2;
  expect(leader.take([entry(1)], 1)).toBe(0);
  expect(leader.take([entry(1)])).toBe(1);
  expect(leader.take([entry(1)])).toBe(0);
});

test("changes of the members and entries without a request are always taken", () => {
  const leader = new Leader();
  const change: ProposedEntry = { ...entry(5), kind: "membership" };
  const command = { kind: "compact", revision: 1 } as const;
  const data = encodeCommand({ request: undefined, identity: undefined, command });
  const anonymous: ProposedEntry = { kind: "normal", data };
  for (const each of [change, anonymous])
    expect([leader.take([each]), leader.take([each])]).toEqual([1, 1]);
});

test("a window tells like a set what occurred, and takes what is too old for occurred", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 120 }), { maxLength: 200 }), (sequences) => {
      const window = new SequenceWindow(SIZE);
      const model = new Set<number>();
      let newest = 0;
      for (const sequence of sequences) {
        const known = model.has(sequence) || sequence <= newest - SIZE;
        expect(window.has(sequence)).toBe(known);
        window.add(sequence);
        if (known) continue;
        model.add(sequence);
        newest = Math.max(newest, sequence);
      }
    }),
  );
});
