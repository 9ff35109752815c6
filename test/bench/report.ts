/** The benchmark's output: a line for each run, tables in markdown, and the machine that it was. */
import { cpus, loadavg, release, totalmem } from "node:os";
import { median, ratio, type CellResult, type Measured } from "./compare.ts";
import type { BigStoreResult } from "./big-store.ts";
import type { Floor, FloorResult } from "./floor.ts";
import type { IdleResult } from "./idle.ts";
import type { Side } from "./sides.ts";

const MIB = 1024 * 1024;

export interface IdleRow {
  readonly side: Side;
  readonly members: number;
  readonly result: IdleResult;
}

export interface FloorRow {
  readonly side: Side;
  readonly floor: Floor;
  readonly result: FloorResult;
}

export interface BigStoreRow {
  readonly side: Side;
  readonly result: BigStoreResult;
}

export function machineLine(): string {
  const model = cpus()[0]?.model.trim() ?? "unknown processor";
  const memory = `${Math.round(totalmem() / MIB / 1024)} GiB`;
  return `${cpus().length} x ${model}, ${memory}, Linux ${release()}, Node ${process.version}`;
}

export function loadLine(): string {
  return `load average ${loadavg()
    .map((load) => load.toFixed(2))
    .join(" ")}`;
}

export function runLine(side: Side, measured: Measured): string {
  const parts = [
    `${Math.round(measured.callsPerSecond)}/s`,
    `p50 ${measured.p50Milliseconds.toFixed(2)} ms`,
    `p99 ${measured.p99Milliseconds.toFixed(2)} ms`,
    `server ${measured.serverMicroseconds.toFixed(1)} us/call`,
    `generator ${measured.generatorMicroseconds.toFixed(1)} us/call`,
    `rss ${(measured.rssBytes / MIB).toFixed(0)} MiB`,
    `anonymous ${(measured.anonymousBytes / MIB).toFixed(0)}`,
    `load ${(loadavg()[0] ?? 0).toFixed(2)}`,
  ];
  const errors = measured.errors > 0 ? ` ${measured.errors} ERRORS: ${measured.firstError}` : "";
  return `${side.padEnd(8)} ${parts.join(", ")}${errors}`;
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(" | ")} |`;
}

function middle(result: CellResult, side: Side, pick: (measured: Measured) => number): number {
  return median((result.rounds.get(side) ?? []).map(pick));
}

export function compareTable(results: readonly CellResult[]): string {
  const heads =
    "members,clients,workload,etcd/s,quorate/s,ratio (min-max),p50 ms,p99 ms,CPU us/call";
  const lines = [
    row([...heads.split(","), "RSS MiB", "anonymous MiB", "errors"]),
    row([...heads.split(","), "", "", ""].map(() => "---")),
  ];
  for (const result of results) {
    const { members, clients, workload } = result.cell;
    const both = (pick: (measured: Measured) => number, digits: number) =>
      [...result.rounds.keys()]
        .map((side) => middle(result, side, pick).toFixed(digits))
        .join(" / ");
    const rate = (side: Side) => {
      const value = middle(result, side, (one) => one.callsPerSecond);
      return Number.isNaN(value) ? "-" : value.toFixed(0);
    };
    const errors = [...result.rounds.values()].flat().reduce((sum, one) => sum + one.errors, 0);
    lines.push(
      row([
        String(members),
        String(clients),
        workload,
        rate("etcd"),
        rate("quorate"),
        ratioText(result),
        both((one) => one.p50Milliseconds, 2),
        both((one) => one.p99Milliseconds, 2),
        both((one) => one.serverMicroseconds, 1),
        both((one) => one.rssBytes / MIB, 0),
        both((one) => one.anonymousBytes / MIB, 0),
        String(errors),
      ]),
    );
  }
  return lines.join("\n");
}

function ratioText(result: CellResult): string {
  const [etcd, quorate] = [result.rounds.get("etcd") ?? [], result.rounds.get("quorate") ?? []];
  if (etcd.length === 0 || quorate.length === 0) return "-";
  const each = quorate.map(
    (own, round) => own.callsPerSecond / (etcd[round]?.callsPerSecond ?? Number.NaN),
  );
  const whole = ratio(result, (one) => one.callsPerSecond);
  return `**${whole.toFixed(2)}** (${Math.min(...each).toFixed(2)}-${Math.max(...each).toFixed(2)})`;
}

export function idleTable(rows: readonly IdleRow[]): string {
  const heads = [
    "members",
    "side",
    "connections",
    "KB per connection",
    "CPU % per member",
    "log entries",
    "bytes to storage",
    "seconds",
  ];
  const lines = [row(heads), row(heads.map(() => "---"))];
  for (const { side, members, result } of rows) {
    lines.push(
      row([
        String(members),
        side,
        String(result.connections),
        (result.bytesPerConnection / 1000).toFixed(1),
        result.cpuPercent.toFixed(1),
        String(result.logEntries),
        String(result.storageBytes),
        String(result.seconds),
      ]),
    );
  }
  return lines.join("\n");
}

export function floorTable(rows: readonly FloorRow[]): string {
  const heads = ["h2load, 100 streams", "side", "requests/s", "CPU us/request", "failed"];
  const lines = [row(heads), row(heads.map(() => "---"))];
  for (const { side, floor, result } of rows) {
    const { requestsPerSecond, serverMicroseconds, failed } = result;
    const figures = [requestsPerSecond.toFixed(0), serverMicroseconds.toFixed(1), String(failed)];
    lines.push(row([floor, side, ...figures]));
  }
  return lines.join("\n");
}

export function bigStoreTable(rows: readonly BigStoreRow[]): string {
  const heads = [
    "keys (32 + 256 bytes)",
    "side",
    "puts/s",
    "database MiB",
    "anonymous MiB, loaded",
    "RSS MiB, loaded",
    "anonymous MiB, restarted",
    "first read after kill -9, ms",
    "CPU until then, ms",
  ];
  const lines = [row(heads), row(heads.map(() => "---"))];
  const mib = (bytes: number) => (bytes / MIB).toFixed(0);
  for (const { side, result } of rows) {
    lines.push(
      row([
        String(result.keys),
        side,
        result.putsPerSecond.toFixed(0),
        mib(result.databaseBytes),
        mib(result.loaded.anonymousBytes),
        mib(result.loaded.rssBytes),
        mib(result.restarted.anonymousBytes),
        result.firstReadMilliseconds.toFixed(0),
        (1000 * result.startCpuSeconds).toFixed(0),
      ]),
    );
  }
  return lines.join("\n");
}
