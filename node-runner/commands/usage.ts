/** What each subcommand takes, as its refusals and the help print it. */

const ENDPOINT =
  "[--endpoints=URL] [--cacert=FILE] [--cert=FILE] [--key=FILE] [--insecure-skip-tls-verify]";

/** By name, one word or two; the help lists them in this order. */
export const USAGE = {
  "wal dump": ["DIRECTORY [--json]"],
  "snapshot save": ["FILE", ENDPOINT],
  "snapshot status": ["FILE [--write-out=simple|json|table]"],
  "snapshot restore": [
    "FILE [--data-dir=DIR] [--wal-dir=DIR] [--name=NAME] [--initial-cluster=NAME=URL,...]",
    "[--initial-cluster-token=TOKEN] [--initial-advertise-peer-urls=URL,...]",
    "[--skip-hash-check] [--bump-revision=N --mark-compacted]",
  ],
  "member change": [
    "[--add=URL[,URL]]... [--add-learner=URL[,URL]]... [--promote=ID]... [--remove=ID]...",
    ENDPOINT,
  ],
  "make-mirror": ["SOURCE DESTINATION [--prefix=P] [--dest-prefix=P] [--rev=N] [--max-txn-ops=N]"],
} as const satisfies Readonly<Record<string, readonly string[]>>;

export type CommandName = keyof typeof USAGE;

const INDENT = " ".repeat("usage: ".length);

/** The commands' lines, all indented alike. */
export function usageLines(names: readonly CommandName[]): string {
  return names
    .map((name) => `${INDENT}quorate ${name} ${USAGE[name].join(`\n${INDENT}    `)}\n`)
    .join("");
}

/** `problem`, and below it what would be right. */
export function usageText(problem: string, ...names: readonly CommandName[]): string {
  return `${problem === "" ? "" : `${problem}\n`}usage: ${usageLines(names).trimStart()}`;
}
