#!/usr/bin/env node
/**
 * The executable. On a modern Node the peer runs in this very process, which first replaces itself
 * by a Node with the peer's flags (40 ms; where the system can't, it runs without them). On an older
 * Node it runs in the one that the npm package `node` brings: signals are passed on, and the child
 * ends when this process dies (its standard input closes).
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import * as nodeModule from "node:module";
import { join } from "node:path";
import {
  PEER_ENVIRONMENT,
  PEER_FLAGS,
  isModern,
  missingNodeText,
  modernNode,
  projectRoot,
} from "./modern-node.js";

// A checkout has the sources, a package what was built of them.
const source = join(projectRoot, "node-runner", "main.ts");
const main = existsSync(source) ? source : join(projectRoot, "dist", "node-runner", "main.js");
const arguments_ = [
  join(projectRoot, "node-runner", "bin", "quorate.js"),
  ...process.argv.slice(2),
];
const environment = { ...PEER_ENVIRONMENT, ...process.env };
const hasFlags = PEER_FLAGS.every((flag) => process.execArgv.includes(flag));

if (isModern() && !hasFlags && process.execve !== undefined && process.platform !== "win32") {
  const flags = [...process.execArgv, ...PEER_FLAGS];
  process.execve(process.execPath, [process.execPath, ...flags, ...arguments_], environment);
} else if (isModern()) {
  // Imported by name it would stop an older Node, which lacks it, before this line.
  nodeModule.enableCompileCache?.();
  const { main: run } = await import(main);
  await run(process.argv.slice(2));
} else {
  const node = modernNode();
  if (node === undefined) {
    process.stderr.write(missingNodeText);
    process.exit(1);
  }
  const child = spawn(node, [...PEER_FLAGS, ...arguments_], {
    stdio: ["pipe", "inherit", "inherit"],
    env: { ...environment, QUORATE_PARENT_PIPE: "1" },
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"]) {
    process.on(signal, () => child.kill(signal));
  }
  child.on("exit", (code, signal) => {
    if (signal !== null) process.kill(process.pid, signal === "SIGKILL" ? "SIGKILL" : "SIGTERM");
    process.exitCode = code ?? 1;
  });
}
