/**
 * `npm run build`: the package as it is published, in `dist/`: JavaScript and declarations of the
 * client, the edge, the peer and the testing cluster, file by file, so that bundlers take only what
 * is used. Development and tests never need it. Plain JavaScript: npm runs it at installation too,
 * and at the first `npx quorate`, on whatever Node there is; there (`--lenient`) what is wrong with
 * declarations is only told, and nothing is done when `dist/` is newer than all it is made of.
 */
import { spawnSync } from "node:child_process";
import { cpSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const dist = join(root, "dist");
const isLenient = process.argv.includes("--lenient");

function compile(project) {
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  const run = spawnSync(process.execPath, [tsc, "-p", project], { cwd: root, stdio: "inherit" });
  if (run.status === 0) return;
  process.stderr.write(`quorate: the build of ${project} failed\n`);
  if (!isLenient) process.exit(1);
}

/** Declarations keep the sources' endings, which nobody can resolve from outside. */
function renameImports(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile() || !entry.name.endsWith(".d.ts")) continue;
    const path = join(entry.parentPath, entry.name);
    const text = readFileSync(path, "utf8");
    const renamed = text.replace(/((?:from|import\()\s*"\.{1,2}\/[^"]+)\.ts"/g, '$1.js"');
    if (renamed !== text) writeFileSync(path, renamed);
  }
}

/** By times of change; a folder's own tells what was added or removed in it. */
function isCurrent() {
  const built = statSync(join(dist, "package.json"), { throwIfNoEntry: false });
  if (built === undefined) return false;
  const files = ["package-lock.json", "package.json", "tsconfig.base.json", "tsconfig.build.json"];
  const folders = ["node-runner", "shared", "worker"].flatMap((folder) => [
    folder,
    ...readdirSync(join(root, folder), { recursive: true }).map((path) => join(folder, path)),
  ]);
  return [...files, ...folders].every((path) => statSync(join(root, path)).mtimeMs < built.mtimeMs);
}

if (isLenient && isCurrent()) process.exit(0);
rmSync(dist, { recursive: true, force: true });
compile("tsconfig.build.json");
compile("worker/tsconfig.build.json");
cpSync(join(root, "shared", "api", "gen"), join(dist, "shared", "api", "gen"), { recursive: true });
renameImports(dist);
// The nearest manifest tells Node the module kind, bundlers what has no effects, and the peer its version.
const { name, version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const manifest = { name, version, type: "module", sideEffects: false };
writeFileSync(join(dist, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
