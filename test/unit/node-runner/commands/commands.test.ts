/** What is said to whoever calls a subcommand by half a name, a wrong one, or asks for help. */
import { expect, test } from "vitest";
import { commandHelp, runCommand } from "../../../../node-runner/commands/commands.ts";

async function run(...args: string[]) {
  let [out, err] = ["", ""];
  const output = { out: (text: string) => (out += text), err: (text: string) => (err += text) };
  const code = await runCommand(args, output);
  return { code, out, err };
}

test("what begins no subcommand is left to the member's flags", async () => {
  for (const args of [[], ["--name=a"], ["stray"], ["dump"]])
    expect(await run(...args)).toEqual({ code: undefined, out: "", err: "" });
});

test.each([
  [["wal"], "wal needs a word more\nusage: quorate wal dump DIRECTORY"],
  [["wal", "tail"], "no wal tail\nusage: quorate wal dump DIRECTORY"],
  [["snapshot", "load", "x"], "no snapshot load\nusage: quorate snapshot save FILE"],
  [["wal", "dump"], "one directory is needed\nusage: quorate wal dump DIRECTORY"],
  [["make-mirror"], "a source and a destination are needed\nusage: quorate make-mirror"],
  [["member", "change"], "no change is named\nusage: quorate member change"],
])("%j is wrong usage", async (args, text) => {
  const { code, out, err } = await run(...args);
  expect(code).toBe(2);
  expect(out).toBe("");
  expect(err).toContain(text);
});

test("help is of one subcommand, of those with the same first word, or of all", async () => {
  const one = await run("snapshot", "save", "--help");
  expect(one).toMatchObject({ code: 0, err: "" });
  expect(one.out).toContain("usage: quorate snapshot save FILE");
  expect(one.out).not.toContain("restore");

  const family = await run("snapshot", "-h");
  expect(family.code).toBe(0);
  for (const name of ["save", "status", "restore"])
    expect(family.out).toContain(`quorate snapshot ${name} FILE`);

  for (const name of ["snapshot restore", "member change", "make-mirror", "wal dump"])
    expect(commandHelp()).toContain(`       quorate ${name} `);
});
