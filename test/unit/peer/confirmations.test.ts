/** Read points: who joins which round, and what becomes of rounds without an answer. */
import { beforeEach, expect, test } from "vitest";
import { Confirmations } from "../../../shared/peer/consensus/confirmations.ts";
import type { Refusal } from "../../../shared/raft/types.ts";

let confirmations: Confirmations;
let asked: number[];
let refusal: Refusal | undefined;
let told: string[];

const readIndex = (context: number): Refusal | undefined => {
  asked.push(context);
  return refusal;
};

function join(name: string, deadline = 1000): void {
  confirmations.join(
    {
      confirmed: () => told.push(name),
      failed: (error) => told.push(`${name} ${error.code}`),
    },
    deadline,
  );
}

beforeEach(() => {
  confirmations = new Confirmations();
  asked = [];
  told = [];
  refusal = undefined;
});

test("all that joined in one turn share a round; a later one never joins it", () => {
  join("a");
  join("b");
  confirmations.flush(readIndex, 0);
  join("late");
  confirmations.answered({ context: 1, index: 5 }, 5);
  expect(told).toEqual(["a", "b"]);
  confirmations.flush(readIndex, 0);
  confirmations.answered({ context: 2, index: 5 }, 5);
  expect([asked, told]).toEqual([
    [1, 2],
    ["a", "b", "late"],
  ]);
});

test("waiters are told once their index is applied, not before", () => {
  join("a");
  confirmations.flush(readIndex, 0);
  confirmations.answered({ context: 1, index: 7 }, 5);
  confirmations.appliedTo(6);
  expect(told).toEqual([]);
  confirmations.appliedTo(7);
  expect(told).toEqual(["a"]);
});

test("a round without an answer is asked again after 500 ms; any of its answers settles it, once", () => {
  join("a");
  confirmations.flush(readIndex, 0);
  confirmations.sweep(readIndex, 499);
  expect(asked).toEqual([1]);
  confirmations.sweep(readIndex, 500);
  expect(asked).toEqual([1, 2]);
  confirmations.answered({ context: 1, index: 1 }, 1);
  confirmations.answered({ context: 2, index: 1 }, 1);
  expect(told).toEqual(["a"]);
  expect(confirmations.waitingCount).toBe(0);
});

test("a new leader fails what the old one was asked, and is asked what nobody was", () => {
  join("asked");
  confirmations.flush(readIndex, 0);
  refusal = "noLeader";
  join("unasked");
  confirmations.flush(readIndex, 0);
  refusal = undefined;
  confirmations.leaderChanged(readIndex, 10);
  expect(told).toEqual(["asked leaderChanged"]);
  confirmations.answered({ context: 3, index: 1 }, 1);
  expect(told).toEqual(["asked leaderChanged", "unasked"]);
});

test("waiting ends with the time-out that fits: for the answer, or for apply", () => {
  join("answer", 100);
  confirmations.flush(readIndex, 0);
  join("apply", 100);
  confirmations.flush(readIndex, 0);
  confirmations.answered({ context: 2, index: 9 }, 1);
  confirmations.sweep(readIndex, 100);
  expect(told.toSorted()).toEqual(["answer timeout", "apply timeoutWaitAppliedIndex"].toSorted());
  expect(confirmations.waitingCount).toBe(0);
});
