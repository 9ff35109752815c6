/**
 * Exclusive use of a folder by one process.
 *
 * The lock must go when its holder dies, however it dies, and must not be confused by a process
 * that got a dead one's id. Only the kernel can promise that, and Node has no `flock`: but
 * `node:sqlite` holds its exclusive transactions by the kernel's record locks (fcntl), which end
 * with the process. So the lock is an open exclusive transaction on the empty database `lock`. It
 * works between containers that share a volume, where an abstract socket would not, and on every
 * system that Node runs on. `lock.holder` names the holder's process id for the error message; it
 * decides nothing.
 */
import * as fs from "node:fs";
import { DatabaseSync } from "node:sqlite";

/** The folder is in use. */
export class DirectoryLockedError extends Error {
  override readonly name = "DirectoryLockedError";
}

const SQLITE_BUSY = 5;

export class DirectoryLock {
  readonly #database: DatabaseSync;

  /** Takes the lock or throws `DirectoryLockedError` at once. The folder must exist. */
  static take(directory: string): DirectoryLock {
    const database = new DatabaseSync(`${directory}/lock`, { timeout: 0 });
    try {
      // A journal in memory: nothing is ever written, and a killed holder leaves no file behind.
      database.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
    } catch (cause) {
      database.close();
      if ((cause as { errcode?: number }).errcode !== SQLITE_BUSY) throw cause;
      const text = `the directory ${directory} is in use by ${holderOf(directory)}`;
      throw new DirectoryLockedError(text, { cause });
    }
    fs.writeFileSync(`${directory}/lock.holder`, `${process.pid}\n`);
    return new DirectoryLock(database);
  }

  private constructor(database: DatabaseSync) {
    this.#database = database;
  }

  release(): void {
    this.#database.close();
  }
}

function holderOf(directory: string): string {
  try {
    const text = fs.readFileSync(`${directory}/lock.holder`, "utf8").trim();
    return /^\d+$/.test(text) ? `process ${text}` : "another process";
  } catch {
    return "another process";
  }
}
