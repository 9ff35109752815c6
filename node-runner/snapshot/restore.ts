/**
 * Makes a data directory from a snapshot: the key-values and leases of the old cluster, the identity
 * of a new one. Every member of the new cluster restores the same file with the same flags, and each
 * finds the same state.
 *
 * The directory is filled under another name and renamed last: there is no moment at which a restore
 * that was cut short could be taken for a new, empty member.
 */
import * as fs from "node:fs";
import { dirname } from "node:path";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import type { ShadowBackend } from "../../shared/backend/backend.ts";
import type { ClusterIdentity } from "../cluster-identity.ts";
import { memberPath, writeIdentity } from "../data-dir/identity.ts";
import { NodeFiles } from "../files/node-files.ts";
import { LmdbBackend } from "../lmdb/lmdb-backend.ts";
import { LmdbShadow } from "../lmdb/shadow.ts";
import { bumpedRows, clusterRows, RESTORED_MARK } from "./restored-rows.ts";
import type { CopiedState, SnapshotSource } from "./snapshot-source.ts";

export interface RestoreOptions {
  readonly source: SnapshotSource;
  readonly identity: ClusterIdentity;
  readonly dataDir: string;
  /** Must be unused: the restored member makes its log there at its first start. */
  readonly walDir: string | undefined;
  /** By how much the revision grows, everything before being compacted; 0: not at all. */
  readonly bumpRevision: number;
}

/** It can't be done with these options, and what to do. */
export class RestoreError extends Error {
  override readonly name = "RestoreError";
}

/** Throws `RestoreError` or `SnapshotFileError`; then nothing is left behind. */
export async function restore(options: RestoreOptions): Promise<CopiedState> {
  const { dataDir, walDir, identity } = options;
  assertUnused(dataDir, "--data-dir");
  if (walDir !== undefined) assertUnused(walDir, "--wal-dir");
  const files = new NodeFiles();
  const unfinished = `${dataDir}.restoring`;
  fs.rmSync(unfinished, { recursive: true, force: true });
  try {
    writeIdentityIn(files, unfinished, identity);
    const state = await fillDatabase(files, `${memberPath(unfinished)}/db`, options);
    if (fs.existsSync(dataDir)) fs.rmdirSync(dataDir);
    files.rename(unfinished, dataDir);
    files.syncDirectory(dirname(dataDir));
    return state;
  } catch (cause) {
    fs.rmSync(unfinished, { recursive: true, force: true });
    throw cause;
  }
}

function assertUnused(directory: string, flag: string): void {
  if (!fs.existsSync(directory)) return;
  const isDirectory = fs.statSync(directory).isDirectory();
  if (isDirectory && fs.readdirSync(directory).length === 0) return;
  throw new RestoreError(
    `${directory} ${isDirectory ? "is not empty" : "is a file"}: nothing is overwritten; move it away or choose another ${flag}`,
  );
}

function writeIdentityIn(files: NodeFiles, dataDir: string, identity: ClusterIdentity): void {
  files.makeDirectory(memberPath(dataDir));
  fs.chmodSync(dataDir, 0o700);
  const { clusterId, memberId } = identity;
  writeIdentity(files, dataDir, { clusterId, memberId });
}

async function fillDatabase(
  files: NodeFiles,
  directory: string,
  options: RestoreOptions,
): Promise<CopiedState> {
  const backend = LmdbBackend.open({ files, directory });
  const shadow = backend.shadow();
  try {
    const state = await copyAll(options.source, shadow);
    const { bumpRevision } = options;
    if (bumpRevision > 0) shadow.apply(bumpedRows(state, bumpRevision));
    shadow.apply(clusterRows(options.identity));
    await shadow.install(RESTORED_MARK.index);
    if (bumpRevision === 0) return state;
    const revision = state.revision + bumpRevision;
    return { ...state, revision, compactRevision: revision };
  } catch (cause) {
    await shadow.discard();
    throw cause;
  } finally {
    await backend.close();
  }
}

async function copyAll(source: SnapshotSource, shadow: ShadowBackend): Promise<CopiedState> {
  const steps = source.copy();
  const isBehind = (): boolean => shadow instanceof LmdbShadow && shadow.congested;
  for (let step = steps.next(); ; step = steps.next()) {
    if (step.done === true) return step.value;
    shadow.apply(step.value);
    // Commits run beside this; they must not fall far behind.
    await nextTurn();
    while (isBehind()) await sleep(5);
  }
}
