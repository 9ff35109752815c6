/**
 * RESULTS.md's generated parts: each stands between two comments that name its command, and is replaced
 * whole when that command runs. The words around them are written by hand.
 */
import { readFileSync, writeFileSync } from "node:fs";

const RESULTS = new URL("RESULTS.md", import.meta.url);

/** The text with the command's part replaced; throws when it has none. */
export function replaceSection(text: string, command: string, section: string): string {
  const [begin, end] = [`<!-- begin: ${command} -->\n`, `<!-- end: ${command} -->`];
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`no part of ${JSON.stringify(command)} is marked`);
  return `${text.slice(0, from)}${begin}\n${section}\n\n${text.slice(to)}`;
}

export function writeSection(command: string, section: string): void {
  writeFileSync(RESULTS, replaceSection(readFileSync(RESULTS, "utf8"), command, section));
}
