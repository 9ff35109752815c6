/** The options of `npm start`, and the text of its `--help`. */
import { parseArgs } from "node:util";

export interface StartOptions {
  /** Absolute or relative to the project; members get a folder each inside. */
  readonly dataDir: string;
  readonly members: readonly MemberPorts[];
  /** So many voters in Durable Objects of the edge worker, instead of `members`; undefined: none. */
  readonly voters: number | undefined;
  /** Undefined: no edge. */
  readonly edgePort: number | undefined;
}

export interface MemberPorts {
  readonly name: string;
  readonly clientPort: number;
  readonly peerPort: number;
}

export class OptionError extends Error {
  override readonly name = "OptionError";
}

export const START_HELP = `npm start: a Quorate cluster and the edge worker, on this machine.

Usage: npm start -- [options]

  --members N        number of peers: 1, 3 or 5                  (3)
  --port P           client port of the first peer; the next ones are 20000 and 10000 more each:
                     2379, 22379, 32379, ...; peer ports are one above        (2379)
  --edge-port P      port of the edge worker                     (8787)
  --no-edge          peers only
  --serverless       no peer processes: the peers are Durable Objects in the edge worker
  --data-dir DIR     where data and logs are kept                (.quorate)
  --help             this text

Ctrl-C stops everything. Data stay, and are there at the next start.
`;

/**
 * Reads the arguments; undefined: help is asked for. Throws `OptionError`, whose text says what
 * would be right.
 */
export function parseStartOptions(args: readonly string[]): StartOptions | undefined {
  const values = read(args);
  if (values.help) return undefined;
  const count = whole("--members", values.members ?? "3", { min: 1, max: 5 });
  if (count % 2 === 0) {
    throw new OptionError(
      `--members is ${count}: an odd number tolerates as many failures; use 1, 3 or 5`,
    );
  }
  if (values.serverless && (values["no-edge"] || values.port !== undefined)) {
    throw new OptionError(
      "--serverless has its peers in the edge worker: leave --no-edge and --port out",
    );
  }
  const first = whole("--port", values.port ?? "2379", { min: 1, max: 65_534 });
  const members = Array.from({ length: values.serverless ? 0 : count }, (_, position) => {
    const clientPort = position === 0 ? first : first + 10_000 * (position + 1);
    if (clientPort > 65_534) {
      throw new OptionError(
        `--port ${first} leaves no port for peer ${position + 1}: choose a lower one`,
      );
    }
    return { name: `peer${position + 1}`, clientPort, peerPort: clientPort + 1 };
  });
  const voters = values.serverless ? count : undefined;
  const edgePort = values["no-edge"]
    ? undefined
    : whole("--edge-port", values["edge-port"] ?? "8787", { min: 1, max: 65_535 });
  const clash = members.find(({ clientPort, peerPort }) =>
    [clientPort, peerPort].some((port) => port === edgePort),
  );
  if (clash !== undefined) {
    throw new OptionError(
      `port ${edgePort} is to serve ${clash.name} and the edge: choose another --port or --edge-port`,
    );
  }
  return { dataDir: values["data-dir"] ?? ".quorate", members, voters, edgePort };
}

function read(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        members: { type: "string" },
        port: { type: "string" },
        "edge-port": { type: "string" },
        "no-edge": { type: "boolean", default: false },
        serverless: { type: "boolean", default: false },
        "data-dir": { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    }).values;
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new OptionError(`${text} (npm start -- --help lists the options)`, { cause: error });
  }
}

function whole(name: string, text: string, bounds: { min: number; max: number }): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= bounds.min && value <= bounds.max) return value;
  throw new OptionError(
    `${name} is "${text}": a whole number from ${bounds.min} to ${bounds.max} is needed`,
  );
}
