/** The versions that a peer reports: the project's own, and those of etcd's API beside it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ETCD_VERSION } from "../shared/peer/services.ts";

const manifest = JSON.parse(
  readFileSync(join(import.meta.dirname, "..", "package.json"), "utf8"),
) as { readonly version: string };

export const QUORATE_VERSION = manifest.version;

/** What `--version` prints; scripts look for its first line. */
export const VERSION_TEXT = `etcd Version: ${ETCD_VERSION}\nQuorate Version: ${QUORATE_VERSION}\n`;
