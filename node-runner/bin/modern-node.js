/**
 * Finds a Node that runs TypeScript sources as they are (24 or newer): this one, or the one that
 * the npm package `node` brings. Plain JavaScript, because it must start on any Node from 20 on.
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The oldest major version that strips types without a flag and has what the peer uses. */
export const MODERN_MAJOR = 24;

/**
 * What the peer's Node is started with. A young generation of twice 16 MiB instead of up to twice 64:
 * 100 MB less under writes at the same CPU a call; with twice 4 MiB a put costs a tenth more.
 */
export const PEER_FLAGS = ["--max-semi-space-size=16"];

/** Two heaps of the C library for all threads, not eight a core, each with pages that LMDB has freed. */
export const PEER_ENVIRONMENT = { MALLOC_ARENA_MAX: "2" };

export const projectRoot = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

export function isModern() {
  return Number(process.versions.node.split(".")[0]) >= MODERN_MAJOR;
}

/** The path of a modern Node, or undefined when there is none: `npm ci` brings it. */
export function modernNode() {
  if (isModern()) return process.execPath;
  for (const root of [projectRoot, dirname(dirname(projectRoot))]) {
    const path = join(root, "node_modules", "node", "bin", "node");
    if (existsSync(path)) return path;
  }
  return undefined;
}

/** What to do when `modernNode` finds none. */
export const missingNodeText =
  `quorate needs Node ${MODERN_MAJOR} or newer; this one is ${process.versions.node}.\n` +
  "The npm package `node` normally brings one by its install script. Either install Node " +
  `${MODERN_MAJOR}, or run \`npm install --ignore-scripts=false\` here and try again.\n`;
