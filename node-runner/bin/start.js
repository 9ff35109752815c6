/**
 * `npm start`: installs what is needed, then starts a cluster and the edge on this machine. Plain
 * JavaScript: it starts on any Node from 20 on and goes on in a modern one.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { ensureInstalled } from "./install.js";
import { isModern, missingNodeText, modernNode, projectRoot } from "./modern-node.js";

ensureInstalled();
const node = modernNode();
if (node === undefined) {
  process.stderr.write(missingNodeText);
  process.exit(1);
}

const main = join(projectRoot, "node-runner", "start", "main.ts");
if (isModern()) {
  await import(main);
} else {
  // The pipe on its standard input tells the child when this process is gone (`parent-pipe.ts`).
  const child = spawn(node, [main, ...process.argv.slice(2)], {
    stdio: ["pipe", "inherit", "inherit"],
    env: { ...process.env, QUORATE_PARENT_PIPE: "1" },
  });
  // A terminal's Ctrl-C reaches the child too; a signal to this process alone is passed on.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => {
      if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
    });
  }
  child.on("exit", (code, signal) => {
    process.exitCode = signal === null ? (code ?? 1) : 1;
  });
}
