/** Starts of the crashable member (`crash-child.ts`), and what its end says. */
import { cpSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Member, Program } from "../support/cluster.ts";
import { CRASH_VARIABLE } from "./crash-child.ts";
import type { CrashPlan } from "./crash-child.ts";

export const CRASHABLE: Program = {
  label: "crash",
  command: process.execPath,
  args: [fileURLToPath(new URL("crash-child.ts", import.meta.url))],
};

/** Small, so that logs switch segments often. */
const SEGMENT_BYTES = 8 * 1024;

export function crashEnv(
  plan: Omit<CrashPlan, "walSegmentBytes"> & { readonly walSegmentBytes?: number },
): Record<string, string> {
  const whole: CrashPlan = { walSegmentBytes: SEGMENT_BYTES, ...plan };
  return { [CRASH_VARIABLE]: JSON.stringify(whole) };
}

/** A member ended by itself with an error: it refused to start, or couldn't go on. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
}

/** Waits until the member serves: "ready", or "killed" if its failpoint came first. */
export async function readyOrKilled(member: Member): Promise<"ready" | "killed"> {
  try {
    await member.ready();
    return "ready";
  } catch (cause) {
    await member.child.ended();
    if (member.child.signal !== "SIGKILL" || member.child.exitCode !== null) throw refused(member);
    if (String(cause).includes("not within")) throw cause;
    return "killed";
  }
}

/**
 * Lets a member run into its failpoint, and kills it where it is once so much time has passed and
 * `isDue`: on a slow machine the time says little. True: it died by itself.
 */
export async function runToDeath(
  member: Member,
  options: { readonly milliseconds: number; readonly isDue: () => boolean },
): Promise<boolean> {
  let bySelf = true;
  const strike = (): void => {
    if (!member.child.running) return;
    if (!options.isDue()) return void (timer = setTimeout(strike, 20));
    bySelf = false;
    member.child.kill("SIGKILL");
  };
  let timer = setTimeout(strike, options.milliseconds);
  await member.child.ended();
  clearTimeout(timer);
  expectKilled(member);
  return bySelf;
}

/** Throws unless the member, which has ended, was killed. */
export function expectKilled(member: Member): void {
  if (member.child.signal !== "SIGKILL") throw refused(member);
}

function refused(member: Member): RefusedError {
  const { log, signal, exitCode } = member.child;
  const end = log.trimEnd().split("\n").slice(-2).join("\n");
  return new RefusedError(`${member.name} ended by itself (${signal ?? exitCode}): ${end}`);
}

/** Copies of a stopped member's database, and their way back. */
export class DatabaseCopies {
  readonly #path: string;
  readonly #folder: string;
  #count = 0;

  constructor(member: Member) {
    this.#path = `${member.dataDir}/member/db`;
    this.#folder = `${member.dataDir}.copies`;
  }

  get count(): number {
    return this.#count;
  }

  take(): void {
    cpSync(this.#path, `${this.#folder}/${this.#count}`, { recursive: true });
    this.#count += 1;
  }

  /** Puts the database back as it was at the copy of this number. */
  restore(number: number): void {
    rmSync(this.#path, { recursive: true });
    cpSync(`${this.#folder}/${number}`, this.#path, { recursive: true });
  }
}
