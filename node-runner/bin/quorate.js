#!/usr/bin/env node
/**
 * The executable. On a modern Node the peer runs in this very process; on an older one it runs in
 * the Node that the npm package `node` brings: signals are passed on, and the child ends when this
 * process dies (its standard input closes).
 */
import { spawn } from "node:child_process";
import * as nodeModule from "node:module";
import { join } from "node:path";
import { isModern, missingNodeText, modernNode, projectRoot } from "./modern-node.js";

const main = join(projectRoot, "node-runner", "main.ts");

if (isModern()) {
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
  const child = spawn(
    node,
    [join(projectRoot, "node-runner", "bin", "quorate.js"), ...process.argv.slice(2)],
    {
      stdio: ["pipe", "inherit", "inherit"],
      env: { ...process.env, QUORATE_PARENT_PIPE: "1" },
    },
  );
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"]) {
    process.on(signal, () => child.kill(signal));
  }
  child.on("exit", (code, signal) => {
    if (signal !== null) process.kill(process.pid, signal === "SIGKILL" ? "SIGKILL" : "SIGTERM");
    process.exitCode = code ?? 1;
  });
}
