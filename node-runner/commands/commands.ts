/**
 * The executable's subcommands: `quorate NAME ...`, told from a member's start by a first argument
 * that is no flag. Each is loaded when it is called, so that none costs a member's start anything.
 */
import { USAGE, usageLines, usageText, type CommandName } from "./usage.ts";

/** Where a subcommand writes; the process' own streams, or a test's. */
export interface CommandOutput {
  out(text: string): void;
  err(text: string): void;
}

/** Runs with the arguments behind the subcommand's name; resolves with the exit code. */
export type Command = (args: readonly string[], output: CommandOutput) => Promise<number>;

const COMMANDS: Readonly<Record<CommandName, () => Promise<Command>>> = {
  "wal dump": async () => (await import("./wal-dump.ts")).walDump,
  "snapshot save": async () => (await import("./snapshot.ts")).snapshotSave,
  "snapshot status": async () => (await import("./snapshot.ts")).snapshotStatus,
  "snapshot restore": async () => (await import("./snapshot.ts")).snapshotRestore,
  "member change": async () => (await import("./member-change.ts")).memberChange,
  "make-mirror": async () => (await import("./make-mirror.ts")).makeMirror,
};

const NAMES = Object.keys(USAGE) as CommandName[];

/**
 * The exit code, or `undefined` when the first argument begins no subcommand's name. A name that
 * isn't whole is wrong usage (2).
 */
export async function runCommand(
  args: readonly string[],
  output: CommandOutput,
): Promise<number | undefined> {
  const [first = "", second] = args;
  const begun = NAMES.filter((name) => name.split(" ")[0] === first);
  if (begun.length === 0) return undefined;
  const name = begun.find((each) => each === first || each === `${first} ${second}`);
  if (args.includes("--help") || args.includes("-h")) {
    output.out(usageText("", ...(name === undefined ? begun : [name])));
    return 0;
  }
  if (name === undefined) {
    const problem = second === undefined ? `${first} needs a word more` : `no ${first} ${second}`;
    output.err(usageText(problem, ...begun));
    return 2;
  }
  const command = await COMMANDS[name]();
  return command(args.slice(name.split(" ").length), output);
}

/** The lines of the help. */
export function commandHelp(): string {
  return usageLines(NAMES).trimEnd();
}
