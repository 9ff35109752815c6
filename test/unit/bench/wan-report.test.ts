/** Latencies over a distance, as they are told. */
import { expect, test } from "vitest";
import { quantile, wanChart, wanTable } from "../../bench/wan-report.ts";
import type { WanCell } from "../../bench/wan-report.ts";

const CELLS: readonly WanCell[] = [
  { delay: 20, operation: "put", way: "etcd", p50: 41, p99: 60 },
  { delay: 20, operation: "put", way: "edge", p50: 42, p99: 61 },
  { delay: 50, operation: "put", way: "etcd", p50: 101, p99: 120 },
  { delay: 50, operation: "put", way: "edge", p50: 102, p99: 9000 },
  { delay: 20, operation: "get, session", way: "edge", p50: 43, p99: 62 },
  { delay: 50, operation: "get, session", way: "edge", p50: 103, p99: 122 },
];

test("a quantile is a sample that the share of them doesn't exceed, in any order", () => {
  const samples = Array.from({ length: 200 }, (_, number) => (number * 7) % 200).map((n) => n + 1);
  expect(quantile(samples, 0.5)).toBe(100);
  expect(quantile(samples, 0.99)).toBe(198);
  expect(quantile([5], 0.99)).toBe(5);
});

test("the table has a row for each operation and way that was measured", () => {
  expect(wanTable(CELLS).split("\n")).toEqual([
    "| p50 / p99 ms | way | 20 ms each way | 50 ms each way |",
    "| --- | --- | --- | --- |",
    "| get, session | edge | 43 / 62 | 103 / 122 |",
    "| put | etcd | 41 / 60 | 101 / 120 |",
    "| put | edge | 42 / 61 | 102 / 9000 |",
  ]);
});

test("the drawing has a line for each way of each operation, and cuts what is off its scale", () => {
  const chart = wanChart(CELLS);
  expect(chart.match(/<polyline/g)).toHaveLength(3);
  const heights = [...chart.matchAll(/ y[12]="(-?[\d.]+)"/g)].map(([, y]) => Number(y));
  expect(Math.min(...heights)).toBeGreaterThanOrEqual(0);
  expect(chart).not.toContain("NaN");
});
