/**
 * `npm start` as a new user meets it: addresses, the ready line, data that stay, a clean end, clear
 * errors.
 */
import { createServer } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Child } from "../support/child.ts";
import { freePorts, isFree } from "../support/ports.ts";
import { makeTempDir, removeTempDir } from "../support/temp-dir.ts";

const ROOT = join(import.meta.dirname, "..", "..");

let dataDir: string;
let ports: { client: number; edge: number };

beforeEach(async () => {
  dataDir = makeTempDir("start");
  const [edge] = await freePorts(1);
  ports = { client: await freeMemberPort(), edge: edge as number };
});

afterEach(() => removeTempDir(dataDir));

/** A first client port whose relatives for three members are free too: the rule is in `--help`. */
async function freeMemberPort(): Promise<number> {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    // All below what the system gives to outgoing connections, which may take a port at any time.
    const port = 2400 + Math.floor(Math.random() * 360);
    const wanted = [port, port + 20_000, port + 30_000].flatMap((each) => [each, each + 1]);
    const free = await Promise.all(wanted.map(isFree));
    if (free.every(Boolean)) return port;
  }
  throw new Error("no free ports for three members");
}

function start(args: readonly string[], readyText?: string): Promise<Child> {
  return Child.start({
    command: process.execPath,
    args: [join(ROOT, "node-runner", "bin", "start.js"), ...args],
    cwd: ROOT,
    ...(readyText === undefined ? {} : { readyText, readyMilliseconds: 120_000 }),
  });
}

function clusterArgs(): string[] {
  return [`--port=${ports.client}`, `--edge-port=${ports.edge}`, `--data-dir=${dataDir}`];
}

test("three peers and the edge start, a key written through the edge stays over a restart", async () => {
  const first = await start(clusterArgs(), "quorate is ready");
  const url = `http://127.0.0.1:${ports.edge}/kv?key=greeting`;
  try {
    for (const text of ["Try:", "curl", "etcdctl", "npm test", "peer3"])
      expect(first.log).toContain(text);
    const put = await fetch(url, { method: "PUT", body: "hello" });
    expect(put.status).toBe(200);
    expect(await (await fetch(url)).text()).toBe("hello");
  } finally {
    first.kill("SIGINT");
  }
  await first.ended();
  expect(first.exitCode).toBe(0);

  const second = await start(clusterArgs(), "quorate is ready");
  try {
    expect(await (await fetch(url)).text()).toBe("hello");
  } finally {
    second.kill("SIGTERM");
    await second.ended();
  }
});

test("members die with a starter that is killed", async () => {
  const child = await start(
    ["--members=1", "--no-edge", `--port=${ports.client}`, `--data-dir=${dataDir}`],
    "quorate is ready",
  );
  child.kill("SIGKILL");
  await child.ended();
  await expect.poll(() => isFree(ports.client)).toBe(true);
});

test("a busy port is named, with what to do", async () => {
  const server = createServer().listen(ports.client, "127.0.0.1");
  await once(server, "listening");
  try {
    const child = await start(clusterArgs());
    await child.ended();
    expect(child.exitCode).toBe(1);
    expect(child.log).toContain(`port ${ports.client} (for clients of peer1) is busy`);
    expect(child.log).toContain("npm start -- --port P");
  } finally {
    server.close();
  }
});

test.each([
  ["--help", 0, "--members N"],
  ["--members=2", 1, "use 1, 3 or 5"],
  ["--members=x", 1, "a whole number from 1 to 5"],
  ["--frob", 1, "npm start -- --help lists the options"],
])("%s ends with %i and says what is right", async (argument, code, text) => {
  const child = await start([argument]);
  await child.ended();
  expect(child.exitCode).toBe(code);
  expect(child.log).toContain(text);
});
