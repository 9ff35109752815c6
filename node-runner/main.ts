/**
 * The executable: runs a subcommand (`commands/commands.ts`) if the first argument names one, else
 * a member: reads the configuration, runs one member until it is told to stop, and ends
 * with a code that says how it went: 0 stopped cleanly, 1 couldn't start or go on.
 */
import { commandHelp, runCommand } from "./commands/commands.ts";
import { ConfigError } from "./config/config-error.ts";
import { parseArguments, type Config } from "./config/config.ts";
import { helpText } from "./config/flags.ts";
import { Logger } from "./logger.ts";
import { startMember, type RunningMember } from "./member.ts";
import { MemberRemovedError } from "../shared/peer/membership-keeper.ts";
import { onParentGone } from "./parent-pipe.ts";
import { QUORATE_VERSION, VERSION_TEXT } from "./version.ts";

export async function main(args: readonly string[]): Promise<void> {
  // Of `quorate wal dump ... | head`: who reads no more ends the command.
  process.stdout.once("error", () => process.exit(1));
  const code = await runCommand(args, {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
  });
  if (code !== undefined) return void (process.exitCode = code);
  let config: Config;
  try {
    const parsed = parseArguments(args, process.env);
    if (parsed.action === "version") return void process.stdout.write(VERSION_TEXT);
    if (parsed.action === "help")
      return void process.stdout.write(helpText(QUORATE_VERSION, commandHelp()));
    ({ config } = parsed);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    createLogger("info").report("error", "failed to verify flags", { error });
    process.exitCode = 1;
    return;
  }
  await run(config, createLogger(config.logLevel));
}

function createLogger(level: Config["logLevel"]): Logger {
  return new Logger(level, (line) => void process.stderr.write(line));
}

async function run(config: Config, logger: Logger): Promise<void> {
  reportRuntimeWarnings(logger);
  for (const warning of config.warnings) logger.report("warn", warning);
  const stop = stopper(logger, config.stopMilliseconds);
  logger.report("info", "starting quorate", {
    version: QUORATE_VERSION,
    pid: process.pid,
    ...config.shown,
  });
  try {
    await startMember({
      config,
      logger,
      onRunning: (member) => {
        stop.member = member;
        if (stop.isAsked) void stop.now();
      },
      onFatal: (error) => {
        if (error instanceof MemberRemovedError) {
          // An orderly end, as with etcd: supervisors shouldn't start it again.
          logger.report("warn", error.message, { "data-dir": config.dataDir });
          logger.report("warn", "the data-dir used by this member must be removed");
          void stop.now();
          return;
        }
        logger.report("error", "the member can't go on", { error, stack: error.stack });
        process.exit(1);
      },
    });
  } catch (error) {
    logger.report("error", "failed to start", { error: describe(error) });
    process.exit(1);
  }
}

/**
 * Stops the member at a signal, or when the parent is gone; a second signal ends the process at
 * once. A member that can't stop in time is ended all the same.
 */
function stopper(logger: Logger, milliseconds: number) {
  const force = (): void => {
    const end = (): void => {
      logger.report("warn", "the stop took too long and was forced", { milliseconds });
      process.exit(0);
    };
    setTimeout(end, milliseconds).unref();
  };
  const state = {
    member: undefined as RunningMember | undefined,
    isAsked: false,
    isStopping: false,
    now: async (): Promise<void> => {
      if (state.isStopping) return;
      state.isStopping = true;
      force();
      await state.member?.stop();
      process.exit(0);
    },
  };
  const ask = (reason: string): void => {
    if (state.isAsked) process.exit(1);
    state.isAsked = true;
    logger.report("info", "stopping", { reason });
    if (state.member !== undefined) void state.now();
    else force();
  };
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const)
    process.on(signal, () => ask(signal));
  onParentGone(() => ask("the parent process is gone"));
  return state;
}

/** Everything on standard error is a JSON line, the runtime's warnings included. */
function reportRuntimeWarnings(logger: Logger): void {
  process.removeAllListeners("warning");
  process.on("warning", (warning) =>
    logger.report("warn", warning.message, { name: warning.name }),
  );
  process.on("uncaughtException", (error) => {
    logger.report("error", "uncaught exception", { error, stack: error.stack });
    process.exit(1);
  });
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { message, cause } = error;
  if (!(cause instanceof Error) || message.includes(cause.message)) return message;
  return `${message}: ${cause.message}`;
}

if (import.meta.main) await main(process.argv.slice(2));
