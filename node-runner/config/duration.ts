/** Go's duration texts (`100ms`, `1m30s`, `1µs`), as etcd's flags take them. */

const UNIT_MILLISECONDS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  "\u00b5s": 1e-3,
  "\u03bcs": 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** Go's durations are nanoseconds in 63 bits. */
const MILLISECONDS_MAX = 2 ** 63 / 1e6;

const PART = /(\d+(?:\.\d*)?|\.\d+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)/gy;

/** Milliseconds (perhaps a fraction, perhaps negative); undefined when the text is no duration. */
export function parseDuration(text: string): number | undefined {
  const negative = text.startsWith("-");
  const body = negative || text.startsWith("+") ? text.slice(1) : text;
  if (body === "0") return 0;
  let milliseconds = 0;
  let position = 0;
  while (position < body.length) {
    PART.lastIndex = position;
    const match = PART.exec(body);
    if (match === null) return undefined;
    milliseconds += Number(match[1]) * (UNIT_MILLISECONDS[match[2] as string] as number);
    position = PART.lastIndex;
  }
  if (position === 0 || milliseconds > MILLISECONDS_MAX) return undefined;
  return negative ? -milliseconds : milliseconds;
}
