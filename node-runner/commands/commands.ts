/**
 * The executable's subcommands: `quorate NAME ...`, told from a member's start by a first argument
 * that is no flag. Each is loaded when it is called, so that none costs a member's start anything.
 */

/** Where a subcommand writes; the process' own streams, or a test's. */
export interface CommandOutput {
  out(text: string): void;
  err(text: string): void;
}

/** Runs with the arguments behind the subcommand's name; resolves with the exit code. */
export type Command = (args: readonly string[], output: CommandOutput) => Promise<number>;

interface CommandEntry {
  readonly name: string;
  readonly usage: string;
  readonly load: () => Promise<Command>;
}

/** Names are one word or two; the help lists them in this order. */
export const COMMANDS: readonly CommandEntry[] = [
  {
    name: "wal dump",
    usage: "wal dump DIRECTORY [--json]",
    load: async () => (await import("./wal-dump.ts")).walDump,
  },
  {
    name: "snapshot save",
    usage: "snapshot save FILE [--endpoints=URL]",
    load: async () => (await import("./snapshot.ts")).snapshotSave,
  },
  {
    name: "snapshot status",
    usage: "snapshot status FILE [--write-out=json|table]",
    load: async () => (await import("./snapshot.ts")).snapshotStatus,
  },
  {
    name: "snapshot restore",
    usage: "snapshot restore FILE [--data-dir=DIR] ...",
    load: async () => (await import("./snapshot.ts")).snapshotRestore,
  },
  {
    name: "member change",
    usage:
      "member change [--add=URLS] [--add-learner=URLS] [--promote=ID] [--remove=ID] [--endpoints=URL]",
    load: async () => (await import("./member-change.ts")).memberChange,
  },
  {
    name: "make-mirror",
    usage:
      "make-mirror SOURCE DESTINATION [--prefix=P] [--dest-prefix=P] [--rev=N] [--max-txn-ops=N]",
    load: async () => (await import("./make-mirror.ts")).makeMirror,
  },
];

/** The exit code, or `undefined` when the arguments name no subcommand. */
export async function runCommand(
  args: readonly string[],
  output: CommandOutput,
): Promise<number | undefined> {
  for (const { name, load } of COMMANDS) {
    const words = name.split(" ");
    if (!words.every((word, place) => args[place] === word)) continue;
    const command = await load();
    return command(args.slice(words.length), output);
  }
  return undefined;
}

/** The lines of the help. */
export function commandHelp(): string {
  return COMMANDS.map(({ usage }) => `       quorate ${usage}`).join("\n");
}
