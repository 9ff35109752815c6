/**
 * `quorate make-mirror SOURCE DESTINATION [--prefix=P] [--dest-prefix=P] [--rev=N]
 * [--max-txn-ops=N]`: copies a prefix, or everything, from a running etcd or Quorate to another one
 * and keeps following until it is interrupted. Both are `http://host:port`. Prints how far it is;
 * `--rev` goes on behind the revision that the last run told. Exit codes: 0 interrupted, 1 it
 * can't go on, 2 wrong usage.
 */
import { parseArgs } from "node:util";
import { utf8 } from "../../shared/base/bytes.ts";
import type { CommandOutput } from "./commands.ts";
import { GatewayClient, GatewayError } from "./gateway-client.ts";
import { Mirror } from "./mirror.ts";
import { usageText } from "./usage.ts";

const PROGRESS_MILLISECONDS = 2000;

interface Wanted {
  readonly source: string;
  readonly destination: string;
  readonly prefix: string;
  readonly destinationPrefix: string;
  readonly afterRevision: number;
  readonly txnOpsMax: number;
}

export async function makeMirror(args: readonly string[], output: CommandOutput): Promise<number> {
  const wanted = parse(args);
  if (typeof wanted === "string") {
    output.err(usageText(wanted, "make-mirror"));
    return 2;
  }
  const stop = new AbortController();
  const interrupt = (): void => stop.abort();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, interrupt);
  const mirror = new Mirror({
    source: new GatewayClient(wanted.source),
    destination: new GatewayClient(wanted.destination),
    prefix: utf8(wanted.prefix),
    destinationPrefix: utf8(wanted.destinationPrefix),
    txnOpsMax: wanted.txnOpsMax,
    afterRevision: wanted.afterRevision,
    signal: stop.signal,
    onRetry: (reason) => output.err(`trying again: ${reason}\n`),
  });
  let shown = "";
  const progress = (): void => {
    const at = mirror.revision === 0 ? "copying" : `in step at revision ${mirror.revision}`;
    const text = `${mirror.changes} changes, ${at}\n`;
    if (text !== shown) output.out(text);
    shown = text;
  };
  const timer = setInterval(progress, PROGRESS_MILLISECONDS);
  try {
    await mirror.run();
    progress();
    if (mirror.revision > 0) output.out(`go on with --rev=${mirror.revision}\n`);
    return 0;
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    output.err(`quorate make-mirror: ${error.message}\n`);
    return 1;
  } finally {
    clearInterval(timer);
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.off(signal, interrupt);
  }
}

/** What is wanted, or what is wrong with the arguments. */
function parse(args: readonly string[]): Wanted | string {
  const text = { type: "string" } as const;
  let parsed;
  try {
    parsed = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { prefix: text, "dest-prefix": text, rev: text, "max-txn-ops": text },
    });
  } catch (error) {
    return (error as Error).message;
  }
  const { values, positionals } = parsed;
  const [source, destination, ...rest] = positionals;
  if (source === undefined || destination === undefined || rest.length > 0) {
    return "a source and a destination are needed";
  }
  for (const url of [source, destination]) {
    if (!URL.canParse(url) || !/^https?:/.test(url)) return `${url} is no http URL`;
  }
  const prefix = values.prefix ?? "";
  const afterRevision = Number(values.rev ?? 0);
  const txnOpsMax = Number(values["max-txn-ops"] ?? 128);
  if (!Number.isSafeInteger(afterRevision) || afterRevision < 0) return "--rev is no revision";
  if (!Number.isSafeInteger(txnOpsMax) || txnOpsMax < 1) return "--max-txn-ops is no number";
  const destinationPrefix = values["dest-prefix"] ?? prefix;
  return { source, destination, prefix, destinationPrefix, afterRevision, txnOpsMax };
}
