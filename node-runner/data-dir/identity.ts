/**
 * Whose data a directory holds. `member/identity.json` is written once, before anything else, and
 * names the directory's format, the cluster and the member: { "format": 1, "cluster":
 * "<hexadecimal>", "member": "<hexadecimal>" }. Beside it, `removed` says that the member was removed from
 * its cluster: nothing may start from this directory any more.
 */
import { textOf, utf8 } from "../../shared/base/bytes.ts";
import type { Files } from "../files/files.ts";
import type { LogIdentity } from "../wal/layout.ts";

/** Counts up when older programs can't use the directory any more. */
const DATA_DIRECTORY_FORMAT = 1;

/** The directory can't be used with this configuration or by this version. */
export class DataDirectoryError extends Error {
  override readonly name = "DataDirectoryError";
}

interface IdentityFile {
  readonly format: number;
  readonly cluster: string;
  readonly member: string;
}

/** `undefined` for a directory that was never used. */
export function readIdentity(files: Files, dataDir: string): LogIdentity | undefined {
  const path = identityPath(dataDir);
  if (!files.exists(path)) return undefined;
  const file = files.open(path, { create: false });
  try {
    const { format, cluster, member } = parse(path, textOf(file.read(0, file.size())));
    if (format !== DATA_DIRECTORY_FORMAT) {
      throw new DataDirectoryError(
        `${dataDir} has format ${format}; this version reads ${DATA_DIRECTORY_FORMAT}: a newer version wrote it`,
      );
    }
    return { clusterId: BigInt(`0x${cluster}`), memberId: BigInt(`0x${member}`) };
  } finally {
    file.close();
  }
}

/** Durable when it returns. */
export function writeIdentity(files: Files, dataDir: string, identity: LogIdentity): void {
  const content: IdentityFile = {
    format: DATA_DIRECTORY_FORMAT,
    cluster: identity.clusterId.toString(16),
    member: identity.memberId.toString(16),
  };
  const path = identityPath(dataDir);
  const file = files.open(`${path}.new`, { create: true });
  try {
    file.truncate(0);
    file.write(0, utf8(`${JSON.stringify(content)}\n`));
    file.sync();
  } finally {
    file.close();
  }
  files.rename(`${path}.new`, path);
  files.syncDirectory(memberPath(dataDir));
}

/** Durable when it returns. */
export function markRemoved(files: Files, dataDir: string): void {
  const file = files.open(removedPath(dataDir), { create: true });
  try {
    file.sync();
  } finally {
    file.close();
  }
  files.syncDirectory(memberPath(dataDir));
}

/** Throws when the directory's member was removed from its cluster. */
export function checkNotRemoved(files: Files, dataDir: string): void {
  if (!files.exists(removedPath(dataDir))) return;
  throw new DataDirectoryError(
    `the member of ${dataDir} has been permanently removed from the cluster: remove this data directory, and ` +
      "add the member anew to let it join again",
  );
}

/** Throws when the directory belongs to somebody else. */
export function checkIdentity(dataDir: string, found: LogIdentity, wanted: LogIdentity): void {
  const hex = (id: bigint): string => id.toString(16);
  if (found.clusterId !== wanted.clusterId) {
    throw new DataDirectoryError(
      `${dataDir} belongs to cluster ${hex(found.clusterId)}, not to the configured ${hex(wanted.clusterId)}`,
    );
  }
  if (found.memberId !== wanted.memberId) {
    throw new DataDirectoryError(
      `${dataDir} belongs to member ${hex(found.memberId)}, not to the configured ${hex(wanted.memberId)}`,
    );
  }
}

export function memberPath(dataDir: string): string {
  return `${dataDir}/member`;
}

function removedPath(dataDir: string): string {
  return `${memberPath(dataDir)}/removed`;
}

function identityPath(dataDir: string): string {
  return `${memberPath(dataDir)}/identity.json`;
}

function parse(path: string, text: string): IdentityFile {
  try {
    const value = JSON.parse(text) as Partial<IdentityFile>;
    const { format, cluster, member } = value;
    const hex = /^[0-9a-f]{1,16}$/;
    if (typeof format === "number" && hex.test(cluster ?? "") && hex.test(member ?? "")) {
      return { format, cluster: cluster as string, member: member as string };
    }
  } catch (cause) {
    throw new DataDirectoryError(`${path} is damaged`, { cause });
  }
  throw new DataDirectoryError(`${path} is damaged`);
}
