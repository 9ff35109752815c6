/** worker/readers: what is held for slow readers is bounded, and who is ended for it. */
import { array, assert, constantFrom, nat, property, record } from "fast-check";
import { describe, expect, test } from "vitest";
import { Readers } from "../../../worker/readers.ts";
import type { Reader, ReaderLimits } from "../../../worker/readers.ts";

const LIMITS = { bytesMax: 1000, readerBytesMax: 400, stallMilliseconds: 50 };

interface Setting {
  readonly readers: Readers;
  /** Names of those that were ended, in order. */
  readonly ended: string[];
  readonly clock: { now: number };
  readonly enter: (name: string) => Reader;
}

function start(limits: Partial<ReaderLimits> = {}): Setting {
  const clock = { now: 0 };
  const readers = new Readers({ ...LIMITS, now: () => clock.now, ...limits });
  const ended: string[] = [];
  return { readers, ended, clock, enter: (name) => readers.enter(() => ended.push(name)) };
}

describe("readers", () => {
  test("when all hold too much, who has taken nothing for longest is ended", () => {
    const { readers, ended, enter } = start();
    const [first, second, third] = [enter("first"), enter("second"), enter("third")];
    first.hold(350);
    second.hold(350);
    first.took(50);
    third.hold(350);
    expect([ended, readers.bytes]).toEqual([[], 1000]);
    third.hold(1);
    expect([ended, readers.bytes, second.isOver]).toEqual([["second"], 651, true]);
    second.hold(1000);
    second.took(10);
    expect(readers.bytes).toBe(651);
  });

  test("a reader that lets bytes wait too long is ended when somebody looks, or more comes", () => {
    const { ended, clock, enter } = start();
    const [looked, fed, idle] = [enter("looked"), enter("fed"), enter("idle")];
    for (const reader of [looked, fed, idle]) reader.hold(10);
    idle.took(10);
    clock.now = 50;
    looked.check();
    fed.hold(1);
    expect(ended).toEqual([]);
    clock.now = 51;
    looked.check();
    fed.hold(1);
    idle.check();
    expect(ended).toEqual(["looked", "fed"]);
    idle.hold(10);
    idle.check();
    expect(idle.isOver).toBe(false);
  });

  test("a reader of its own is held to its own bound, whatever the size of one message", () => {
    const { readers, ended, enter } = start();
    const reader = enter("large");
    reader.hold(900);
    reader.took(900);
    reader.hold(401);
    expect(ended).toEqual([]);
    reader.hold(1);
    expect([ended, readers.bytes]).toEqual([["large"], 0]);
  });

  test("who leaves is told nothing and holds nothing", () => {
    const { readers, ended, enter } = start();
    const reader = enter("gone");
    reader.hold(100);
    reader.leave();
    reader.end();
    expect([readers.bytes, readers.waiting, ended]).toEqual([0, 0, []]);
  });
});

const steps = array(
  record({
    who: nat(9),
    what: constantFrom("hold", "hold", "hold", "take", "leave", "look"),
    bytes: nat(200),
    passes: nat(20),
  }),
  { minLength: 60, maxLength: 200 },
);

function mostHeld(limits: Partial<ReaderLimits>): void {
  assert(
    property(steps, (each) => {
      const { readers, clock, enter, ended } = start(limits);
      const all = Array.from({ length: 10 }, (_, n) => enter(`${n}`));
      for (const { who, what, bytes, passes } of each) {
        clock.now += passes;
        const reader = all[who] as Reader;
        if (what === "hold") reader.hold(bytes);
        if (what === "take") reader.took(Math.min(bytes, reader.bytes));
        if (what === "look") reader.check();
        if (what === "leave") {
          reader.leave();
          all[who] = enter(`${who} again`);
        }
        const sum = all.reduce((total, one) => total + one.bytes, 0);
        expect(readers.bytes).toBe(sum);
        expect(sum).toBeLessThanOrEqual(LIMITS.bytesMax);
        expect(new Set(all.filter((one) => one.bytes > 0)).size).toBe(readers.waiting);
      }
      expect(ended.length).toBeLessThanOrEqual(each.length);
    }),
    { numRuns: 60, seed: 7 },
  );
}

test("whatever they do, the bound of all holds and every byte is accounted for", () => {
  mostHeld({});
});

test("negative control: without bounds more is held", () => {
  const none = Number.POSITIVE_INFINITY;
  const limits = { bytesMax: none, readerBytesMax: none, stallMilliseconds: none };
  expect(() => mostHeld(limits)).toThrow();
});
