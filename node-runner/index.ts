/**
 * `quorate/node`: a member inside a process of one's own, by the flags that the `quorate` command
 * takes. Node 24 or newer.
 *
 *   const member = await startQuorate(["--data-dir=/var/lib/quorate"]);
 *   process.once("SIGTERM", () => member.stop());
 */
import { parseArguments } from "./config/config.ts";
import { Logger } from "./logger.ts";
import { startMember } from "./member.ts";
import type { RunningMember } from "./member.ts";

export type { RunningMember } from "./member.ts";

export interface StartOptions {
  /** Where `ETCD_*` and `QUORATE_SECRET` are looked up; nowhere unless told. */
  readonly environment?: Readonly<Record<string, string | undefined>> | undefined;
  /** Gets the log's lines (JSON); standard error unless told. */
  readonly log?: ((line: string) => void) | undefined;
  /** The member can't go on, and answers nobody any more. Thrown as an uncaught error unless told. */
  readonly onFatal?: ((error: Error) => void) | undefined;
}

/** Resolves once the member serves; rejects with what is wrong with the flags, or why it can't. */
export function startQuorate(
  flags: readonly string[],
  options: StartOptions = {},
): Promise<RunningMember> {
  const parsed = parseArguments(flags, options.environment ?? {});
  if (parsed.action !== "run") {
    return Promise.reject(new TypeError(`these flags ask for ${parsed.action}, not for a member`));
  }
  const { config } = parsed;
  const log = options.log ?? ((line) => void process.stderr.write(line));
  const onFatal =
    options.onFatal ??
    ((error) => {
      queueMicrotask(() => {
        throw error;
      });
    });
  return startMember({ config, logger: new Logger(config.logLevel, log), onFatal });
}
