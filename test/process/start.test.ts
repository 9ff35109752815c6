/**
 * `npm start` as a new user meets it: addresses, the ready line, data that stay, a clean end, clear
 * errors.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
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
    ...(readyText === undefined ? {} : { readyText, readyMilliseconds: 200_000 }),
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

test("what a killed peer needs is said; all die with a starter that is killed", async () => {
  const child = await start(clusterArgs(), "quorate is ready");
  try {
    const log = readFileSync(join(dataDir, "log", "peer3.log"), "utf8");
    process.kill(Number(/"pid":(\d+)/.exec(log)?.[1]), "SIGKILL");
    await expect.poll(() => child.log).toContain("peer3 ended (SIGKILL)");
    expect(child.log).toContain(`npx quorate --name=peer3 --data-dir=${join(dataDir, "peer3")}`);
  } finally {
    child.kill("SIGKILL");
    await child.ended();
  }
  for (const port of [ports.client, ports.edge]) await expect.poll(() => isFree(port)).toBe(true);

  const other = await start(["--members=1", ...clusterArgs()]);
  await other.ended();
  expect(other.exitCode).toBe(1);
  expect(other.log).toContain(`holds a cluster of --members 3 --port ${ports.client}`);
});

test("Ctrl-C while it starts ends what has been started", async () => {
  const child = await start(clusterArgs(), "quorate: starting");
  child.kill("SIGINT");
  await child.ended();
  expect(child.exitCode).toBe(0);
  expect(child.log).not.toContain("quorate is ready");
  for (const port of [ports.client, ports.edge]) await expect.poll(() => isFree(port)).toBe(true);
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
  ["--port=8786", 1, "port 8787 is to serve peer1 and the edge"],
])("%s ends with %i and says what is right", async (argument, code, text) => {
  const child = await start([argument]);
  await child.ended();
  expect(child.exitCode).toBe(code);
  expect(child.log).toContain(text);
});
