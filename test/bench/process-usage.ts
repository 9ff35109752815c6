/** What the kernel knows of the server processes (Linux, /proc): CPU, memory and bytes written to storage. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

const TICKS_PER_SECOND = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

export interface Usage {
  readonly cpuSeconds: number;
  readonly rssBytes: number;
  /** Memory that no file backs: what the process allocated itself. */
  readonly anonymousBytes: number;
  /** Bytes that its writes sent towards storage. */
  readonly storageBytes: number;
}

function field(text: string, name: string): number {
  const value = new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)?.[1];
  if (value === undefined) throw new Error(`no ${name} in /proc`);
  return Number(value);
}

function usageOf(pid: number): Usage {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The name in parentheses may hold spaces; utime and stime are the 12th and 13th fields behind it.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const io = readFileSync(`/proc/${pid}/io`, "utf8");
  return {
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
    rssBytes: field(status, "VmRSS") * 1024,
    anonymousBytes: field(status, "RssAnon") * 1024,
    storageBytes: field(io, "write_bytes"),
  };
}

/** The sum over these processes. */
export function usageOfAll(pids: readonly number[]): Usage {
  const each = pids.map((pid) => usageOf(pid));
  const sum = (pick: (usage: Usage) => number) => each.reduce((total, one) => total + pick(one), 0);
  return {
    cpuSeconds: sum((one) => one.cpuSeconds),
    rssBytes: sum((one) => one.rssBytes),
    anonymousBytes: sum((one) => one.anonymousBytes),
    storageBytes: sum((one) => one.storageBytes),
  };
}
