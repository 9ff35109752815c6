/** Finds out whose snapshot a file is, and checks the SHA-256 that both kinds end with. */
import { createHash } from "node:crypto";
import { equalBytes } from "../../shared/base/bytes.ts";
import {
  FILE_HASH_BYTES,
  hashOfFile,
  isSnapshotFile,
} from "../../shared/peer/state/snapshot-file.ts";
import { BboltFile, isBboltFile } from "./bbolt.ts";
import { EtcdSnapshot } from "./etcd-snapshot.ts";
import { QuorateSnapshot } from "./quorate-snapshot.ts";
import { SnapshotFileError, type ReadableFile } from "./readable-file.ts";
import type { SnapshotSource } from "./snapshot-source.ts";

const BLOCK_BYTES = 512;

/** "whereThere": files without one pass, such as etcd's `member/snap/db`. */
export type HashCheck = "always" | "whereThere" | "never";

/** Throws `SnapshotFileError`. */
export function openSnapshot(
  file: ReadableFile,
  options: { readonly checkHash: HashCheck },
): SnapshotSource {
  const start = file.read(0, 32);
  const isOurs = isSnapshotFile(start);
  if (!isOurs && !isBboltFile(start)) {
    throw new SnapshotFileError("it is neither a snapshot of quorate nor a database of etcd");
  }
  const hasHash = file.size % BLOCK_BYTES === FILE_HASH_BYTES;
  const { checkHash } = options;
  if (checkHash === "always" || (checkHash === "whereThere" && hasHash)) assertHash(file, hasHash);
  if (isOurs) return new QuorateSnapshot(file);
  const size = hasHash ? file.size - FILE_HASH_BYTES : file.size;
  return new EtcdSnapshot(new BboltFile(file, size), size);
}

function assertHash(file: ReadableFile, hasHash: boolean): void {
  if (!hasHash) {
    throw new SnapshotFileError(
      `its ${file.size} bytes don't end with a hash: it is cut off, or a copy of a data directory's ` +
        "file; save it again, or for such a copy use --skip-hash-check",
    );
  }
  const hash = createHash("sha256");
  const { stored, actual } = hashOfFile(file.read, file.size, {
    update: (bytes) => void hash.update(bytes),
    digest: () => hash.digest(),
  });
  if (equalBytes(stored, actual)) return;
  throw new SnapshotFileError(
    "its SHA-256 differs from the one at its end: the file was damaged after it was saved; take another copy, " +
      "or use --skip-hash-check to try what is left of it",
  );
}
