/** What `wan.ts` measured, as a table and as a drawing. */
import { OPERATIONS } from "./wan-calls.ts";
import type { Operation } from "./wan-calls.ts";

export interface WanCell {
  /** Milliseconds each way. */
  readonly delay: number;
  readonly operation: Operation;
  /** The way into the cluster. */
  readonly way: string;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
}

/** The smallest sample that this share of them doesn't exceed. */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((left, right) => left - right);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

const distinct = <Thing>(things: readonly Thing[]): Thing[] => [...new Set(things)];

function cellAt(
  cells: readonly WanCell[],
  at: Pick<WanCell, "operation" | "way" | "delay">,
): WanCell | undefined {
  return cells.find(
    ({ operation, way, delay }) =>
      operation === at.operation && way === at.way && delay === at.delay,
  );
}

/** A row for each operation and way, a column for each delay; p50 / p99. */
export function wanTable(cells: readonly WanCell[]): string {
  const delays = distinct(cells.map(({ delay }) => delay));
  const rows = [["p50 / p99 ms", "way", ...delays.map((delay) => `${delay} ms each way`)]];
  rows.push(rows[0]?.map(() => "---") ?? []);
  for (const operation of OPERATIONS) {
    for (const way of distinct(cells.map((cell) => cell.way))) {
      const figures = delays.map((delay) => cellAt(cells, { operation, way, delay }));
      if (figures.every((cell) => cell === undefined)) continue;
      const shown = figures.map((cell) =>
        cell === undefined ? "-" : `${cell.p50.toFixed(0)} / ${cell.p99.toFixed(0)}`,
      );
      rows.push([operation, way, ...shown]);
    }
  }
  return rows.map((row) => `| ${row.join(" | ")} |`).join("\n");
}

const COLORS = ["#d97706", "#7c3aed", "#0891b2", "#16a34a", "#db2777"];
const PANEL = { width: 240, height: 190, left: 34, right: 18, top: 26, bottom: 24 };
const COLUMNS = 4;
const LEGEND_HEIGHT = 52;

/**
 * A panel for each operation: milliseconds over the delay, a line for each way's p50, and a thin
 * stroke from there up to its p99 (cut at the panel's top). The dashed line is one round trip, for
 * events one way.
 */
export function wanChart(cells: readonly WanCell[]): string {
  const ways = distinct(cells.map(({ way }) => way));
  const delays = distinct(cells.map(({ delay }) => delay));
  const slowest = Math.max(...cells.map(({ p50 }) => p50), 2 * Math.max(...delays));
  const top = Math.ceil((1.15 * slowest) / 100) * 100;
  const panels = OPERATIONS.map((operation, place) => {
    const x = (place % COLUMNS) * PANEL.width;
    const y = LEGEND_HEIGHT + Math.floor(place / COLUMNS) * PANEL.height;
    const panel = panelOf(cells, { operation, ways, delays, top });
    return `<g transform="translate(${x} ${y})">\n${panel}\n</g>`;
  });
  const legend = ways.map((way, place) => {
    const x = 34 + place * 170;
    const color = COLORS[place % COLORS.length];
    return (
      `<line x1="${x}" y1="14" x2="${x + 22}" y2="14" stroke="${color}" stroke-width="2"/>` +
      `<text x="${x + 28}" y="18">${way}</text>`
    );
  });
  const note =
    "p50 in ms over the delay each way in ms; thin strokes reach up to p99; " +
    "dashed: the distance alone (a round trip; one way for events)";
  const width = COLUMNS * PANEL.width;
  const height = LEGEND_HEIGHT + Math.ceil(OPERATIONS.length / COLUMNS) * PANEL.height;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img">`,
    "<style>",
    "  text { font: 12px system-ui, sans-serif; fill: #57606a }",
    "  .title { font-weight: 600 } .axis { stroke: #8c959f; stroke-width: 0.5 }",
    "  @media (prefers-color-scheme: dark) { text { fill: #9da7b3 } }",
    "</style>",
    ...legend,
    `<text x="34" y="40">${note}</text>`,
    ...panels,
    "</svg>",
    "",
  ].join("\n");
}

function panelOf(
  cells: readonly WanCell[],
  {
    operation,
    ways,
    delays,
    top,
  }: {
    readonly operation: Operation;
    readonly ways: readonly string[];
    readonly delays: readonly number[];
    readonly top: number;
  },
): string {
  const { width, height, left, right, top: head, bottom } = PANEL;
  const longest = Math.max(...delays, 1);
  const x = (delay: number): string =>
    (left + (delay / longest) * (width - left - right)).toFixed(1);
  const y = (milliseconds: number): string =>
    (height - bottom - (Math.min(milliseconds, top) / top) * (height - head - bottom)).toFixed(1);
  const parts = [`<text class="title" x="${left}" y="16">${operation}</text>`];
  for (const tick of [0, top / 2, top]) {
    parts.push(
      `<line class="axis" x1="${left}" y1="${y(tick)}" x2="${width - right}" y2="${y(tick)}"/>`,
      `<text x="${left - 4}" y="${y(tick)}" dy="4" text-anchor="end">${tick}</text>`,
    );
  }
  for (const delay of delays) {
    parts.push(
      `<text x="${x(delay)}" y="${height - bottom + 15}" text-anchor="middle">${delay}</text>`,
    );
  }
  const trip = operation === "watch event" ? 1 : 2;
  parts.push(
    `<line x1="${x(0)}" y1="${y(0)}" x2="${x(longest)}" y2="${y(trip * longest)}" ` +
      `stroke="#8c959f" stroke-dasharray="3 3"/>`,
  );
  for (const [place, way] of ways.entries()) {
    const color = COLORS[place % COLORS.length];
    const found = delays.flatMap((delay) => cellAt(cells, { operation, way, delay }) ?? []);
    const points = found.map(({ delay, p50 }) => `${x(delay)},${y(p50)}`).join(" ");
    if (points === "") continue;
    parts.push(`<polyline points="${points}" fill="none" stroke="${color}" stroke-width="2"/>`);
    // The ways' strokes stand beside each other.
    const aside = (place - (ways.length - 1) / 2) * 3;
    for (const { delay, p50, p99 } of found) {
      const at = (Number(x(delay)) + aside).toFixed(1);
      parts.push(`<line x1="${at}" y1="${y(p50)}" x2="${at}" y2="${y(p99)}" stroke="${color}"/>`);
    }
  }
  return parts.join("\n");
}
