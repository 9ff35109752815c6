/**
 * `quorate snapshot save|status|restore`: backups, with the flags of etcdctl and etcdutl. Exit codes:
 * 0 done, 1 it can't be done, and standard error says why, 2 wrong usage.
 */
import { basename } from "node:path";
import { parseArgs, type ParseArgsOptionsConfig } from "node:util";
import { bootstrapIdentity } from "../cluster-identity.ts";
import { parseClusterMap } from "../config/url.ts";
import { openSnapshot, type HashCheck } from "../snapshot/open-snapshot.ts";
import { openReadable, SnapshotFileError } from "../snapshot/readable-file.ts";
import { restore, RestoreError } from "../snapshot/restore.ts";
import { save, SaveError } from "../snapshot/save.ts";
import type { SnapshotSource } from "../snapshot/snapshot-source.ts";
import type { CommandOutput } from "./commands.ts";
import { ENDPOINT_FLAGS, endpointOf, UsageError } from "./endpoint-flags.ts";
import { textTable } from "./text-table.ts";
import { usageText, type CommandName } from "./usage.ts";

type Texts = Readonly<Record<string, string | boolean | undefined>>;

/** Reads flags and the one argument, a file; runs; turns expected failures into exit codes. */
async function run(
  args: readonly string[],
  output: CommandOutput,
  command: {
    readonly name: CommandName;
    readonly flags: ParseArgsOptionsConfig;
    readonly body: (path: string, flags: Texts) => Promise<void>;
  },
): Promise<number> {
  try {
    const { path, flags } = parse(args, command.flags);
    await command.body(path, flags);
    return 0;
  } catch (error) {
    if (error instanceof UsageError) {
      output.err(usageText(error.message, command.name));
      return 2;
    }
    const isExpected = [SnapshotFileError, RestoreError, SaveError].some(
      (kind) => error instanceof kind,
    );
    const system = error instanceof Error && "code" in error;
    if (!isExpected && !system) throw error;
    output.err(`quorate snapshot: ${(error as Error).message}\n`);
    return 1;
  }
}

function parse(args: readonly string[], options: ParseArgsOptionsConfig) {
  let parsed: { values: Record<string, unknown>; positionals: string[] };
  try {
    parsed = parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (cause) {
    throw new UsageError((cause as Error).message, { cause });
  }
  const [path, ...more] = parsed.positionals;
  if (path === undefined || more.length > 0) throw new UsageError("one file is needed");
  return { path, flags: parsed.values as Texts };
}

function textOf(flags: Texts, name: string): string | undefined {
  const value = flags[name];
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** Opens a file for `body`; what is wrong with it is told with its name. */
async function withSnapshot<Result>(
  path: string,
  options: { readonly checkHash: HashCheck },
  body: (source: SnapshotSource) => Result | Promise<Result>,
): Promise<Result> {
  let close = (): void => {};
  try {
    const file = openReadable(path);
    close = () => file.close();
    return await body(openSnapshot(file, options));
  } catch (cause) {
    if (!(cause instanceof SnapshotFileError)) throw cause;
    throw new SnapshotFileError(`${path} is no usable snapshot: ${cause.message}`, { cause });
  } finally {
    close();
  }
}

export function snapshotSave(args: readonly string[], output: CommandOutput): Promise<number> {
  return run(args, output, {
    name: "snapshot save",
    flags: ENDPOINT_FLAGS,
    async body(path, values) {
      const { endpoint, tls } = endpointOf(
        {
          endpoints: textOf(values, "endpoints") ?? "",
          cacert: textOf(values, "cacert"),
          cert: textOf(values, "cert"),
          key: textOf(values, "key"),
          "insecure-skip-tls-verify": values["insecure-skip-tls-verify"] === true,
        },
        "a snapshot is of one member: name a single endpoint",
      );
      const size = await save({ endpoint, path, tls });
      output.out(`Snapshot saved at ${path} (${size} bytes)\n`);
    },
  });
}

export function snapshotStatus(args: readonly string[], output: CommandOutput): Promise<number> {
  const flags = { "write-out": { type: "string", short: "w", default: "simple" } } as const;
  return run(args, output, {
    name: "snapshot status",
    flags,
    async body(path, values) {
      const form = textOf(values, "write-out") ?? "simple";
      if (!["simple", "json", "table"].includes(form)) {
        throw new UsageError(`--write-out is "${form}": it must be simple, json or table`);
      }
      const { hash, revision, totalKeys, totalBytes, version } = await withSnapshot(
        path,
        { checkHash: "whereThere" },
        (source) => source.status(),
      );
      if (form === "json") {
        const json = { hash, revision, totalKey: totalKeys, totalSize: totalBytes, version };
        return output.out(`${JSON.stringify(json)}\n`);
      }
      const row = [hash.toString(16), revision, totalKeys, sizeText(totalBytes), version].map(
        String,
      );
      if (form === "simple") return output.out(`${row.join(", ")}\n`);
      output.out(textTable(["hash", "revision", "total keys", "total size", "version"], row));
    },
  });
}

/** As etcdutl shows sizes: 20 kB, 1.4 MB. */
function sizeText(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let [size, unit] = [bytes, 0];
  for (; size >= 1000 && unit < units.length - 1; unit += 1) size /= 1000;
  const shown = unit === 0 || size >= 10 ? size.toFixed(0) : size.toFixed(1);
  return `${shown} ${units[unit]}`;
}

export function snapshotRestore(args: readonly string[], output: CommandOutput): Promise<number> {
  const flags = {
    "data-dir": { type: "string" },
    "wal-dir": { type: "string" },
    name: { type: "string", default: "default" },
    "initial-cluster": { type: "string" },
    "initial-cluster-token": { type: "string", default: "etcd-cluster" },
    "initial-advertise-peer-urls": { type: "string", default: "http://localhost:2380" },
    "skip-hash-check": { type: "boolean" },
    "bump-revision": { type: "string" },
    "mark-compacted": { type: "boolean" },
  } as const;
  return run(args, output, {
    name: "snapshot restore",
    flags,
    async body(path, values) {
      const identity = identityOf(values);
      const dataDir = textOf(values, "data-dir") ?? `${textOf(values, "name")}.etcd`;
      const bumpRevision = bumpOf(values);
      const checkHash = values["skip-hash-check"] === true ? "never" : "always";
      const walDir = textOf(values, "wal-dir");
      const [kind, state] = await withSnapshot(path, { checkHash }, async (source) => {
        const options = { source, identity, dataDir, walDir, bumpRevision };
        return [source.kind, await restore(options)] as const;
      });
      for (const note of state.notes) output.out(`Note: ${note}\n`);
      const compacted =
        state.compactRevision < 0 ? "" : `, compacted below ${state.compactRevision}`;
      output.out(
        `Restored ${basename(path)} (of ${kind}) to ${dataDir}: revision ${state.revision}${compacted}, ` +
          `member ${identity.memberId.toString(16)} of cluster ${identity.clusterId.toString(16)}\n`,
      );
    },
  });
}

function identityOf(flags: Texts) {
  const name = textOf(flags, "name") ?? "default";
  const peerUrls = (textOf(flags, "initial-advertise-peer-urls") ?? "")
    .split(",")
    .map((url) => url.trim());
  const text =
    textOf(flags, "initial-cluster") ?? peerUrls.map((url) => `${name}=${url}`).join(",");
  const initialCluster = parseClusterMap(text);
  if ("problem" in initialCluster) {
    throw new UsageError(`--initial-cluster: ${initialCluster.problem}`);
  }
  const own = initialCluster.get(name);
  if (own === undefined) {
    throw new UsageError(
      `--initial-cluster doesn't name this member: add ${name}=URL, or correct --name`,
    );
  }
  if (own.toSorted().join() !== peerUrls.toSorted().join()) {
    throw new UsageError(
      `--initial-cluster has ${own.join(",")} for ${name}, but --initial-advertise-peer-urls is ${peerUrls.join(",")}: make them equal`,
    );
  }
  const token = textOf(flags, "initial-cluster-token") ?? "etcd-cluster";
  return bootstrapIdentity({ name, token, initialCluster });
}

function bumpOf(flags: Texts): number {
  const text = textOf(flags, "bump-revision") ?? "0";
  const bump = /^\d{1,15}$/.test(text) ? Number(text) : undefined;
  if (bump === undefined) {
    throw new UsageError(`--bump-revision is "${text}": it must be a whole number`);
  }
  const marks = flags["mark-compacted"] === true;
  if (bump > 0 && !marks) throw new UsageError("--bump-revision needs --mark-compacted beside it");
  if (marks && bump === 0) throw new UsageError("--mark-compacted needs --bump-revision beside it");
  return bump;
}
