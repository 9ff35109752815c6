/**
 * Opens a member's durable storage as one: the lock, the identity, the write-ahead log and the
 * backend, and the checks that they fit together.
 *
 *     <data dir>/member/           locked by one process
 *       identity.json              cluster, member, format
 *       removed                    there once the member was removed from its cluster
 *       db/<generation>/           LMDB; db/CURRENT names the one in use
 *       wal/                       the log's segments, unless a directory of their own is configured
 */
import { randomInt } from "node:crypto";
import type { Backend } from "../../shared/backend/backend.ts";
import type { Files } from "../files/files.ts";
import { NodeFiles } from "../files/node-files.ts";
import { timedFiles } from "../files/timed-files.ts";
import { LmdbBackend } from "../lmdb/lmdb-backend.ts";
import type { DiskTimes } from "../metrics/disk-metrics.ts";
import type { LogIdentity } from "../wal/layout.ts";
import { WriteAheadLog } from "../wal/write-ahead-log.ts";
import {
  DataDirectoryError,
  checkIdentity,
  checkNotRemoved,
  markRemoved,
  memberPath,
  readIdentity,
  writeIdentity,
} from "./identity.ts";
import { DirectoryLock } from "./lock.ts";

export interface StorageOptions {
  readonly dataDir: string;
  /** Where the log goes instead of beside the database (a disk of its own). */
  readonly walDir?: string | undefined;
  /** Who the directory must belong to; a new one will. */
  readonly identity: LogIdentity;
  /** Hears the first fault of log or backend; the peer must stop. */
  readonly onFault: (fault: Error) => void;
  /**
   * The term of the backend's applied index, from the rows of whoever applies. Needed to finish an
   * install.
   */
  readonly appliedTerm?: (backend: Backend) => number | undefined;
  readonly walSegmentBytes?: number | undefined;
  /** The disk, except for what LMDB maps itself. */
  readonly files?: Files | undefined;
  /** Hears how long log and database took. */
  readonly times?: DiskTimes | undefined;
}

export interface Storage {
  readonly log: WriteAheadLog;
  readonly backend: LmdbBackend;
  /** Nothing was there before. */
  readonly created: boolean;
  /** Writes what is pending, gives files and lock back. */
  close(): Promise<void>;
}

/** Whose directory it is; `undefined` if it was never used. */
export function identityOf(dataDir: string): LogIdentity | undefined {
  return readIdentity(new NodeFiles(), dataDir);
}

/** The directory's member was removed from its cluster: it never starts again. */
export function retire(dataDir: string): void {
  markRemoved(new NodeFiles(), dataDir);
}

/**
 * Throws `DirectoryLockedError`, `DataDirectoryError`, `WalDamageError`, `WalMismatchError` or
 * `BackendError`.
 */
export async function openStorage(options: StorageOptions): Promise<Storage> {
  const files = options.files ?? new NodeFiles();
  const locks: DirectoryLock[] = [];
  const parts: { close(): Promise<void> }[] = [];
  const close = async (): Promise<void> => {
    for (const part of parts) await part.close();
    for (const lock of locks) lock.release();
  };
  try {
    for (const directory of lockedDirectories(options)) {
      files.makeDirectory(directory);
      locks.push(DirectoryLock.take(directory));
    }
    const created = claim(files, options);
    const log = openLog(files, options);
    parts.push(log);
    const backend = openBackend(files, options, log);
    parts.push(backend);
    join(log, backend, options);
    return { log, backend, created, close };
  } catch (cause) {
    await close();
    throw cause;
  }
}

function lockedDirectories(options: StorageOptions): readonly string[] {
  const member = memberPath(options.dataDir);
  return options.walDir === undefined ? [member] : [member, options.walDir];
}

/** Checks or writes the identity; true for a new directory. */
function claim(files: Files, options: StorageOptions): boolean {
  const { dataDir, identity } = options;
  const found = readIdentity(files, dataDir);
  if (found !== undefined) {
    checkIdentity(dataDir, found, identity);
    checkNotRemoved(files, dataDir);
    return false;
  }
  const member = memberPath(dataDir);
  const leftovers = ["wal", "db"].filter((name) => files.exists(`${member}/${name}`));
  if (leftovers.length > 0) {
    throw new DataDirectoryError(
      `${member} holds ${leftovers.join(" and ")}, yet no identity.json`,
    );
  }
  writeIdentity(files, dataDir, identity);
  return true;
}

function openLog(files: Files, options: StorageOptions): WriteAheadLog {
  const directory = options.walDir ?? `${memberPath(options.dataDir)}/wal`;
  const { times } = options;
  try {
    return WriteAheadLog.open({
      files: times === undefined ? files : timedFiles(files, (seconds) => times.logged(seconds)),
      directory,
      identity: options.identity,
      salt: randomInt(2 ** 32),
      onFault: options.onFault,
      ...(options.walSegmentBytes !== undefined && { segmentBytes: options.walSegmentBytes }),
    });
  } catch (cause) {
    // The system's errors don't always name the file.
    if ((cause as NodeJS.ErrnoException).syscall === undefined) throw cause;
    throw new Error(`the write-ahead log in ${directory} can't be opened`, { cause });
  }
}

function openBackend(files: Files, options: StorageOptions, log: WriteAheadLog): LmdbBackend {
  return LmdbBackend.open({
    files,
    directory: `${memberPath(options.dataDir)}/db`,
    // Else a crash could leave the database ahead of the log.
    commitLimit: () => log.durableIndex,
    onFault: options.onFault,
    onCommit: (seconds) => options.times?.committed(seconds),
  });
}

/**
 * The log must go on where the backend ends. One gap is an honest one: a snapshot was installed in
 * the backend, and the crash came before the log started anew behind it; that is finished here.
 */
function join(log: WriteAheadLog, backend: LmdbBackend, options: StorageOptions): void {
  const applied = backend.visibleIndex;
  const { firstIndex, lastIndex } = log;
  if (applied < firstIndex - 1) {
    throw new DataDirectoryError(
      `${options.dataDir}: the database ends with entry ${applied}, the log begins with ${firstIndex}: the entries ` +
        "between are missing; add the member anew with an empty data directory",
    );
  }
  if (applied <= lastIndex) return;
  const term = backend.installedIndex === applied ? options.appliedTerm?.(backend) : undefined;
  if (term === undefined) {
    const { path, offset } = log.end;
    throw new DataDirectoryError(
      `${options.dataDir}: the database ends with entry ${applied}, the log already with ${lastIndex} (file ${path}, ` +
        `offset ${offset}): entries that were durable are gone from the log; add the member anew with an empty data ` +
        "directory",
    );
  }
  log.restartBehind({ index: applied, term });
}
