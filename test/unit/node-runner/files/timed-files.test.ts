/** Durable writes with a clock beside them: those that succeed are heard of, and faults go through. */
import { expect, test } from "vitest";
import { NodeFiles } from "../../../../node-runner/files/node-files.ts";
import { timedFiles } from "../../../../node-runner/files/timed-files.ts";
import { HookedFiles } from "../../../support/hooked-files.ts";
import { makeTempDir, removeTempDir } from "../../../support/temp-dir.ts";

test("each durable write is timed once it is done; a failed one is not, and says why", async () => {
  const directory = makeTempDir("timed-files");
  let failing = false;
  const disk = new HookedFiles(new NodeFiles(), ({ when, call }) => {
    if (failing && when === "before" && call === "writeDurable") throw new Error("no disk");
  });
  const seconds: number[] = [];
  const file = timedFiles(disk, (each) => seconds.push(each)).open(`${directory}/log`, {
    create: true,
  });
  const write = (): Promise<Error | undefined> =>
    new Promise((resolve) => file.writeDurable(0, new Uint8Array(10), resolve));
  try {
    expect(await write()).toBeUndefined();
    expect(seconds.length).toBe(1);
    expect(seconds[0]).toBeGreaterThan(0);
    expect(file.size()).toBeGreaterThanOrEqual(10);
    failing = true;
    expect((await write())?.message).toBe("no disk");
    expect(seconds.length).toBe(1);
  } finally {
    file.close();
    removeTempDir(directory);
  }
});
