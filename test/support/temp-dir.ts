/**
 * Temporary directories of tests. Each is removed by its owner, and whatever is left is removed when the test process
 * ends, so that an aborted run leaves nothing behind.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const alive = new Set<string>();

process.on("exit", () => {
  for (const path of alive) rmSync(path, { recursive: true, force: true });
});

/** Makes an empty directory of its own; `label` shows in its name. */
export function makeTempDir(label: string): string {
  const path = mkdtempSync(join(tmpdir(), `quorate-${label}-`));
  alive.add(path);
  return path;
}

export function removeTempDir(path: string): void {
  // What a program's last children still write there is waited for.
  rmSync(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  alive.delete(path);
}
