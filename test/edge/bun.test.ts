/**
 * The edge's app on Bun: another engine (JavaScriptCore) with its own `fetch`, streams and crypto,
 * so that nothing of workerd's or Node's is taken for the platform's.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Child } from "../support/child.ts";
import { refusedUpgrade, statusAtHost, withLimit } from "./edge.ts";
import type { StartEdge } from "./edge.ts";
import { proxySuite } from "./proxy-suite.ts";

const ROOT = join(import.meta.dirname, "..", "..");

/** The program in the package for this platform, or where the package `bun` has moved it to. */
function bunProgram(): string {
  const system = process.platform === "win32" ? "windows" : process.platform;
  const machine = process.arch === "arm64" ? "aarch64" : process.arch;
  const file = process.platform === "win32" ? "bun.exe" : "bun";
  const modules = join(ROOT, "node_modules");
  const own = join(modules, "@oven", `bun-${system}-${machine}`, "bin", file);
  return existsSync(own) ? own : join(modules, "bun", "bin", "bun.exe");
}

const startOnBun: StartEdge = async (peers, variables = {}) => {
  const child = await Child.start({
    command: bunProgram(),
    args: ["run", join(import.meta.dirname, "bun-server.ts")],
    env: { EDGE_ENV: JSON.stringify({ ...variables, QUORATE_PEERS: peers.join(",") }) },
    readyText: "end",
    readyMilliseconds: 60_000,
  });
  const port = Number(/listening on (\d+) end/.exec(child.log)?.[1]);
  return {
    // It serves no WebSockets of the edge, so clients of the suite go by POST.
    url: undefined,
    fetch: (path, init = {}) => fetch(`http://127.0.0.1:${port}${path}`, withLimit(init)),
    refusedUpgrade: (path) => refusedUpgrade({ port, path }),
    statusAtHost: (host, path) => statusAtHost({ port, host, path }),
    stop: () => child.stop(),
  };
};

proxySuite("on Bun", startOnBun);
