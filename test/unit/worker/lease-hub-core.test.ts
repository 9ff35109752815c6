/** worker/lease-hub-core: confirmed batching as input, time and output. */
import { describe, expect, test } from "vitest";
import { Prng } from "../../../shared/base/prng.ts";
import { LeaseHubCore } from "../../../worker/lease-hub-core.ts";
import type { Batch, Ticket } from "../../../worker/lease-hub-core.ts";

const LIMITS = { gatherMilliseconds: 75, batchIdsMax: 100, waitingMax: 1000 };

function openHub(limits: Partial<typeof LIMITS> = {}): LeaseHubCore {
  return new LeaseHubCore("incarnation", { ...LIMITS, ...limits });
}

const only = (batches: readonly Batch[]): Batch => {
  expect(batches.length).toBe(1);
  return batches[0] as Batch;
};

describe("lease hub", () => {
  test("keepalives within the gathering time travel as one message, each id once", () => {
    const hub = openHub();
    const tickets = [hub.ask([1n], 0), hub.ask([2n, 1n], 50), hub.ask([3n], 74)];
    expect(hub.closesAt).toBe(75);
    expect(hub.close(74)).toEqual([]);
    const batch = only(hub.close(75));
    expect(batch.ids).toEqual([1n, 2n, 3n]);
    expect(hub.closesAt).toBeUndefined();
    expect(hub.settle(batch.number, [10, 20, 0])).toEqual([
      { ticket: tickets[0], outcome: "confirmed", ttlSeconds: [10] },
      { ticket: tickets[1], outcome: "confirmed", ttlSeconds: [20, 10] },
      { ticket: tickets[2], outcome: "confirmed", ttlSeconds: [0] },
    ]);
  });

  test("a keepalive that comes while a batch is under way waits for a confirmation of its own", () => {
    const hub = openHub();
    hub.ask([1n], 0);
    const first = only(hub.close(75));
    const late = hub.ask([1n], 80);
    expect(hub.settle(first.number, [10]).map((each) => each.ticket)).not.toContainEqual(late);
    const second = only(hub.close(155));
    expect(hub.settle(second.number, [9])).toEqual([
      { ticket: late, outcome: "confirmed", ttlSeconds: [9] },
    ]);
  });

  test.each([
    ["no answer", undefined],
    ["an answer of another length", [10]],
  ])("%s confirms nothing", (_name, ttlSeconds) => {
    const hub = openHub();
    hub.ask([1n, 2n], 0);
    const batch = only(hub.close(75));
    expect(hub.settle(batch.number, ttlSeconds)).toMatchObject([{ outcome: "failed" }]);
  });

  test("a full batch closes at once, and no message holds more than the limit", () => {
    const hub = openHub();
    for (let caller = 0; caller < 7; caller += 1) {
      hub.ask(
        Array.from({ length: 30 }, (_, n) => BigInt(caller * 30 + n)),
        5,
      );
    }
    expect(hub.closesAt).toBe(5);
    expect(hub.close(5).map((batch) => batch.ids.length)).toEqual([90, 90, 30]);
  });

  test("what waits is bounded, and room returns with the answers", () => {
    const hub = openHub({ waitingMax: 2 });
    expect(hub.ask([1n, 2n], 0)).toBeDefined();
    expect(hub.ask([3n], 0)).toBeUndefined();
    const batch = only(hub.close(75));
    expect(hub.ask([3n], 80)).toBeUndefined();
    hub.settle(batch.number, undefined);
    expect(hub.ask([3n], 90)).toBeDefined();
  });

  test("a batch is settled once", () => {
    const hub = openHub();
    hub.ask([1n], 0);
    const batch = only(hub.close(75));
    hub.settle(batch.number, [10]);
    expect(() => hub.settle(batch.number, [10])).toThrow("under way");
  });

  test("tickets name their incarnation", () => {
    expect(openHub().ask([1n], 0)).toEqual({ incarnation: "incarnation", number: 1 });
  });
});

/**
 * The invariant, with its negative control: a renewal is confirmed to a caller only by an answer
 * to a message that left after the caller had asked. `joinsUnderWay` breaks it on purpose.
 */
function runRandomly(seed: number, joinsUnderWay: boolean): string[] {
  const prng = new Prng(seed);
  const hub = openHub();
  const askedAt = new Map<number, number>();
  const sentAt = new Map<number, number>();
  const underWay: Batch[] = [];
  const violations: string[] = [];
  const tickets: Ticket[] = [];
  let answered = 0;
  for (let now = 0; now < 20_000; now += prng.between(1, 40)) {
    if (prng.chance(0.6)) {
      const ticket = hub.ask([BigInt(prng.below(20))], now);
      if (ticket !== undefined) {
        tickets.push(ticket);
        askedAt.set(ticket.number, now);
      }
    }
    for (const batch of hub.close(now)) {
      sentAt.set(batch.number, now);
      underWay.push(batch);
    }
    if (underWay.length === 0 || !prng.chance(0.3)) continue;
    const [batch] = underWay.splice(prng.below(underWay.length), 1) as [Batch];
    const ttls = prng.chance(0.2) ? undefined : batch.ids.map(() => 10);
    const settled = hub.settle(batch.number, ttls).map((each) => ({ ...each }));
    const late = tickets.at(-1);
    if (joinsUnderWay && ttls !== undefined && late !== undefined) {
      settled.push({ ticket: late, outcome: "confirmed", ttlSeconds: [10] });
    }
    for (const { ticket, outcome } of settled) {
      answered += 1;
      if (outcome !== "confirmed") continue;
      const asked = askedAt.get(ticket.number) as number;
      const sent = sentAt.get(batch.number) as number;
      if (sent < asked) violations.push(`seed ${seed}: asked at ${asked}, sent at ${sent}`);
    }
  }
  expect(answered).toBeGreaterThan(100);
  return violations;
}

test("random callers are confirmed only by messages that left after they asked", () => {
  for (let seed = 1; seed <= 50; seed += 1) expect(runRandomly(seed, false)).toEqual([]);
});

test("negative control: a hub that lets late callers join is caught", () => {
  expect(runRandomly(1, true)).not.toEqual([]);
});

test("two live incarnations of one hub answer their own callers, each by its own messages", () => {
  const hubs = [new LeaseHubCore("old", LIMITS), new LeaseHubCore("new", LIMITS)];
  const tickets = hubs.map((hub) => hub.ask([1n], 0));
  const batches = hubs.map((hub) => only(hub.close(75)));
  // The lease was lost between the two confirmations: each caller hears what its own one said.
  const settled = hubs.map((hub, place) => {
    return hub.settle(batches[place]?.number ?? 0, [place === 0 ? 10 : 0]);
  });
  expect(settled).toEqual([
    [{ ticket: tickets[0], outcome: "confirmed", ttlSeconds: [10] }],
    [{ ticket: tickets[1], outcome: "confirmed", ttlSeconds: [0] }],
  ]);
  expect(tickets.map((ticket) => ticket?.incarnation)).toEqual(["old", "new"]);
  // An answer that reaches the wrong one settles nobody.
  hubs[0]?.ask([2n], 80);
  expect(() => hubs[1]?.settle(batches[0]?.number ?? 0, [10])).toThrow("is under way");
});
