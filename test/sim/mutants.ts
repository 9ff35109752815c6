/**
 * Bugs put into the production sources on purpose, as they are loaded: the proof that the checkers
 * see what they are for (`npm run sim:mutants` runs them all). Production code knows nothing of it.
 * Each edit replaces one exact text of one file, and fails when that text isn't there exactly once.
 */
import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { MUTANTS } from "./mutant-table.ts";

export interface Edit {
  /** From the root of the project. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export interface Mutant {
  readonly name: string;
  /** What is wrong with it. */
  readonly breaks: string;
  readonly edits: readonly Edit[];
  /** The runs read under a leader's lease: it breaks that. */
  readonly leaseReads?: true;
  /** The runs change several members at once: it breaks that. */
  readonly jointChanges?: true;
  /** The first seed; 1 unless told. */
  readonly seedsFrom?: number;
  /** So many seeds are enough to catch it. */
  readonly seedsMax: number;
}

const ROOT = new URL("../../", import.meta.url);

export function mutantNamed(name: string): Mutant {
  const found = MUTANTS.find((mutant) => mutant.name === name);
  if (found !== undefined) return found;
  throw new Error(`no mutant ${name}; there are ${MUTANTS.map((each) => each.name).join(", ")}`);
}

/** Puts the mutant into what this thread loads from now on. */
export function mutateSources(mutant: Mutant): void {
  const files = new Map(
    mutant.edits.map(({ file }) => [new URL(file, ROOT).href, mutatedSource(mutant, file)]),
  );
  registerHooks({
    load(url, context, nextLoad) {
      const source = files.get(url);
      const loaded = nextLoad(url, context);
      return source === undefined ? loaded : { ...loaded, source };
    },
  });
}

/** A file with all of a mutant's edits in it; throws where one doesn't fit. */
export function mutatedSource(mutant: Mutant, file: string): string {
  let source = readFileSync(new URL(file, ROOT), "utf8");
  for (const edit of mutant.edits) {
    if (edit.file !== file) continue;
    const parts = source.split(edit.find);
    if (parts.length !== 2) {
      const count = parts.length - 1;
      throw new Error(`${mutant.name}: ${file} has this ${count} times, not once: ${edit.find}`);
    }
    source = parts.join(edit.replace);
  }
  return source;
}
