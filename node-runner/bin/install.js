/**
 * Installs the dependencies when some are missing or of another version than the lock file's, with
 * npm's own progress display. Plain JavaScript without dependencies: it runs before anything is
 * installed.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { projectRoot } from "./modern-node.js";

/** npm lists here what it installed, in the lock file's own form. */
const INSTALLED = join(projectRoot, "node_modules", ".package-lock.json");

/**
 * True when everything that the lock file demands is there in its version. Packages of other
 * platforms may be absent.
 */
function isInstalled() {
  if (!existsSync(INSTALLED)) return false;
  const wanted = JSON.parse(readFileSync(join(projectRoot, "package-lock.json"), "utf8")).packages;
  const installed = JSON.parse(readFileSync(INSTALLED, "utf8")).packages;
  return Object.entries(wanted).every(([path, { version, optional }]) => {
    if (path === "") return true;
    const found = installed[path];
    return found === undefined ? optional === true : found.version === version;
  });
}

/**
 * Returns once everything is installed; ends the process with npm's exit code and advice when it
 * can't be.
 */
export function ensureInstalled() {
  if (isInstalled()) return;
  process.stdout.write(
    "quorate: installing the dependencies (npm ci), once; this takes a minute\n",
  );
  const npm = process.platform === "win32" ? "npm.cmd" : "npm";
  const run = spawnSync(npm, ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: projectRoot,
    stdio: "inherit",
  });
  if (run.status === 0) return;
  process.stderr.write(
    "quorate: npm ci failed (its message is above). Check the connection to the npm registry and try again.\n",
  );
  process.exit(run.status ?? 1);
}
