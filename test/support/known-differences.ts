/**
 * Reads `test/known-differences.txt`: where a target is known to answer otherwise than the suite expects. A listed test
 * must fail on that target; one that passes, or that no longer exists, makes the suite fail, so the list can't rot.
 */
import { readFileSync } from "node:fs";

const FILE = new URL("../known-differences.txt", import.meta.url);

interface KnownDifference {
  readonly target: string;
  readonly test: string;
  readonly reason: string;
}

function parse(text: string): KnownDifference[] {
  return text
    .split("\n")
    .filter((line) => line.trim() !== "" && !line.startsWith("#"))
    .map((line) => {
      const [target, test, reason] = line.split(" | ").map((part) => part.trim());
      if (target === undefined || test === undefined || reason === undefined || reason === "") {
        throw new Error(`known-differences.txt: not "target | test | reason": ${line}`);
      }
      return { target, test, reason };
    });
}

/**
 * The listed differences of one target, of that target with so many members, and by one door: reasons by test name.
 */
export function knownDifferences(
  target: string,
  members: number,
  door?: string,
): Map<string, string> {
  const labels = [target, `${target}, ${members} members`, `${target} by ${door ?? "gRPC"}`];
  const own = parse(readFileSync(FILE, "utf8")).filter((line) => labels.includes(line.target));
  return new Map(own.map((line) => [line.test, line.reason]));
}
