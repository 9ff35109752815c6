/**
 * The log: JSON lines as etcd writes them (`level`, `ts`, `caller`, `msg`, then fields) on standard
 * error. Scripts wait for some of its texts. Bytes and bigints among the fields are shown as text.
 */
import type { LogLevel } from "../shared/peer/host.ts";

const RANK: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };

export class Logger {
  readonly #least: number;
  readonly #write: (line: string) => void;

  constructor(level: LogLevel, write: (line: string) => void) {
    this.#least = RANK[level];
    this.#write = write;
  }

  report(level: LogLevel, message: string, fields: Readonly<Record<string, unknown>> = {}): void {
    if (RANK[level] < this.#least) return;
    const line = { level, ts: stamp(new Date()), caller: "quorate", msg: message, ...fields };
    this.#write(`${JSON.stringify(line, plain)}\n`);
  }
}

/** 2006-01-02T15:04:05.999999Z0700 of Go: microseconds, and Z for UTC. */
function stamp(date: Date): string {
  return date.toISOString().replace("Z", "000Z");
}

function plain(_name: string, value: unknown): unknown {
  if (typeof value === "bigint") return value.toString(16);
  if (value instanceof Error) return value.message;
  if (value instanceof Map) return Object.fromEntries(value);
  return value;
}
