/** Deadlines of calls: grpc-timeout's units, and one timer for many calls. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Deadlines, parseTimeout } from "../../../../node-runner/grpc/deadline.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

test.each([
  ["1H", 3_600_000],
  ["2M", 120_000],
  ["3S", 3000],
  ["4m", 4],
  ["5u", 0.005],
  ["6n", 6e-6],
])("grpc-timeout %s is %d ms", (text, milliseconds) => {
  expect(parseTimeout(text)).toBeCloseTo(milliseconds, 9);
});

describe("deadlines", () => {
  function waiting(deadlines: Deadlines, milliseconds: number, expired: number[]) {
    const call = {
      deadline: performance.now() + milliseconds,
      expire: () => expired.push(milliseconds),
    };
    return { call, ticket: deadlines.add(call) };
  }

  test("expire in order and never early; a cleared one does not", () => {
    const deadlines = new Deadlines();
    const expired: number[] = [];
    for (const milliseconds of [500, 20, 100, 3000]) waiting(deadlines, milliseconds, expired);
    const { call, ticket } = waiting(deadlines, 50, expired);
    deadlines.delete(call, ticket);
    vi.advanceTimersByTime(19);
    expect(expired).toEqual([]);
    vi.advanceTimersByTime(100);
    expect(expired).toEqual([20, 100]);
    vi.advanceTimersByTime(5000);
    expect(expired).toEqual([20, 100, 500, 3000]);
    expect(deadlines.count).toBe(0);
  });

  test("many calls share one timer", () => {
    const deadlines = new Deadlines();
    const expired: number[] = [];
    for (let count = 0; count < 1000; count += 1) waiting(deadlines, 5000 + (count % 50), expired);
    expect(vi.getTimerCount()).toBe(1);
    vi.advanceTimersByTime(6000);
    expect(expired).toHaveLength(1000);
  });

  test("a deadline beyond what a timer can wait doesn't fire at once", () => {
    const deadlines = new Deadlines();
    const expired: number[] = [];
    waiting(deadlines, 99_999_999 * 3_600_000, expired);
    vi.advanceTimersByTime(0x7fff_ffff * 2);
    expect(expired).toEqual([]);
    expect(vi.getTimerCount()).toBe(1);
  });
});
