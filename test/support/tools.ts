/**
 * Programs from outside the project that a suite needs (etcd, etcdctl, Chromium). Where one is missing, the suite is a
 * printed and counted skip on a developer's machine, and a failure in CI, so that no referee goes missing unnoticed.
 */
import { execFileSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { describe, test } from "vitest";

const DEBIAN_PACKAGES: Readonly<Record<string, string>> = {
  etcd: "etcd-server",
  etcdctl: "etcd-client",
  chromium: "chromium",
  h2load: "nghttp2-client",
};

/** The path of an executable on PATH, or undefined. */
export function findTool(name: string): string | undefined {
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/** `describe` for a suite that needs external tools. */
export function describeWithTools(names: readonly string[], title: string, body: () => void): void {
  const missing = names.filter((name) => findTool(name) === undefined);
  const what = missing
    .map((name) => `${name} (Debian package ${DEBIAN_PACKAGES[name] ?? name})`)
    .join(", ");
  if (missing.length > 0 && process.env["CI"] === "true") {
    test(`${title}: needs ${what}`, () => {
      throw new Error(`not installed: ${what}`);
    });
    return;
  }
  if (missing.length > 0) console.warn(`skipped: ${title}: not installed: ${what}`);
  describe.skipIf(missing.length > 0)(title, body);
}

/** Debian's etcd as `etcd MAJOR.MINOR`, the way `known-differences.txt` names it; `etcd` when it isn't installed. */
export function etcdLabel(): string {
  const command = findTool("etcd");
  if (command === undefined) return "etcd";
  const output = execFileSync(command, ["--version"], { encoding: "utf8" });
  const version = /etcd Version: (\d+\.\d+)/.exec(output)?.[1];
  if (version === undefined) throw new Error(`etcd --version is not understood: ${output}`);
  return `etcd ${version}`;
}
