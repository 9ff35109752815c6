/**
 * raft: the transcripts of test/transcripts/raft, each a story of one behaviour: a command, `----`,
 * what came of it, and an empty line. `#` begins a comment. REWRITE=1 writes the output anew; the
 * difference is then to be read as carefully as code.
 */
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { TranscriptRunner } from "./transcript-runner.ts";

const FOLDER = join(import.meta.dirname, "..", "..", "transcripts", "raft");
const SEPARATOR = "----";

/** Runs a transcript's commands; the answer is the transcript with the output that came. */
function rerun(text: string): string {
  const runner = new TranscriptRunner();
  const lines = text.split("\n");
  const result: string[] = [];
  for (let position = 0; position < lines.length; position += 1) {
    const line = lines[position] ?? "";
    result.push(line);
    if (line === "" || line.startsWith("#")) continue;
    expect(lines[position + 1], `after "${line}"`).toBe(SEPARATOR);
    result.push(SEPARATOR, runner.run(line), "");
    while (position + 1 < lines.length && lines[position + 1] !== "") position += 1;
    position += 1;
  }
  return `${result.join("\n").trimEnd()}\n`;
}

describe("transcripts", () => {
  for (const name of readdirSync(FOLDER).filter((each) => each.endsWith(".txt"))) {
    test(name, () => {
      const path = join(FOLDER, name);
      const text = readFileSync(path, "utf8");
      const now = rerun(text);
      if (process.env["REWRITE"] === "1") writeFileSync(path, now);
      else expect(now).toBe(text);
    });
  }
});
