/** The log of a member under test, as its JSON lines. */

export interface LogLine {
  readonly level: string;
  readonly ts: string;
  readonly msg: string;
  readonly error?: string;
  readonly [field: string]: unknown;
}

/**
 * Every line; throws on one that is no JSON object with level, time and message. What stands behind the last end of a
 * line is being written still.
 */
export function logLines(log: string): LogLine[] {
  return log
    .slice(0, log.lastIndexOf("\n") + 1)
    .split("\n")
    .filter((line) => line !== "")
    .map((text) => {
      const line = JSON.parse(text) as LogLine;
      if (![line.level, line.ts, line.msg].every((each) => typeof each === "string")) {
        throw new Error(`no log line: ${text}`);
      }
      return line;
    });
}

/** The lines of level error or worse. */
export function errorLines(log: string): LogLine[] {
  return logLines(log).filter(({ level }) => !["debug", "info", "warn"].includes(level));
}
