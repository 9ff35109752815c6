/** What `wrangler deploy` would publish: it builds, within what Cloudflare takes, without network. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { makeTempDir, removeTempDir } from "../support/temp-dir.ts";

const ROOT = join(import.meta.dirname, "..", "..");
/** A free plan's Worker, compressed. */
const BUNDLE_BYTES_MAX = 3 * 1024 * 1024;

test.each([
  ["the edge", ["--env="]],
  ["a cluster without servers", ["--env", "serverless"]],
  ["a member beside Node peers", ["--env", "member"]],
])(
  "wrangler deploy --dry-run of %s: no warning, no eval, nothing of Node but its hash",
  async (_, flags) => {
    const out = makeTempDir("deploy");
    try {
      const wrangler = join(ROOT, "node_modules", "wrangler", "bin", "wrangler.js");
      const { stdout, stderr } = await promisify(execFile)(
        process.execPath,
        [wrangler, "deploy", "--dry-run", "--outdir", out, ...flags],
        { cwd: ROOT, env: { ...process.env, WRANGLER_SEND_METRICS: "false", CI: "true" } },
      );
      expect(stdout + stderr).not.toContain("WARNING");
      expect(stdout).toContain("LEASE_HUB");
      expect(stdout).toContain("--dry-run: exiting now");
      const bundle = readFileSync(join(out, "index.js"), "utf8");
      expect(gzipSync(bundle).length).toBeLessThan(BUNDLE_BYTES_MAX);
      expect(bundle).not.toMatch(/\beval\(/);
      // The peer in a Durable Object hashes with `node:crypto`, which `nodejs_compat` offers.
      const ofNode = [...bundle.matchAll(/from\s*"(node:[^"]+)"/g)].map(([, name]) => name);
      expect(ofNode.filter((name) => name !== "node:crypto")).toEqual([]);
    } finally {
      removeTempDir(out);
    }
  },
);
