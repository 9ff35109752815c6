/** Debian's etcdctl (API version 3), unchanged, against a target: what an operator types. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Child } from "../support/child.ts";
import type { Cluster } from "../support/cluster.ts";
import { makeTempDir, removeTempDir } from "../support/temp-dir.ts";
import { clusterForSuite } from "./interop-suite.ts";

const ENV = { ETCDCTL_API: "3" };
const COMMAND_SECONDS = 60;
/** Its own limits are short of what a slow machine takes. */
const PATIENCE = ["--dial-timeout=30s", "--command-timeout=30s"];
/** Says that a call was tried again, as when a leader is elected. */
const TRIED_AGAIN = "retrying of unary invoker failed";
/** Members are held to be connected for too short a time, a learner isn't in sync yet. */
const NOT_YET = ["unhealthy cluster", "in sync with leader"];

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one command to its end, with `input` on its standard input. */
function run(endpoints: string, args: readonly string[], input = ""): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const process_ = spawn("etcdctl", [`--endpoints=${endpoints}`, ...PATIENCE, ...args], {
      env: { ...process.env, ...ENV },
      timeout: COMMAND_SECONDS * 1000,
    });
    let [stdout, stderr] = ["", ""];
    process_.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    process_.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    process_.once("error", reject);
    process_.once("close", (code) => resolve({ code, stdout, stderr }));
    // A command that reads nothing may have ended by then.
    process_.stdin.on("error", () => undefined);
    process_.stdin.end(input);
  });
}

/** A command that must succeed; its output's lines. */
async function lines(endpoints: string, args: readonly string[], input = ""): Promise<string[]> {
  const outcome = await run(endpoints, args, input);
  const said = outcome.stderr.split("\n").filter((line) => !line.includes(TRIED_AGAIN));
  expect([outcome.code, said.join("\n")], args.join(" ")).toEqual([0, ""]);
  return outcome.stdout.split("\n").filter((line) => line !== "");
}

/** A command that runs until it is stopped; stopped after `body`, whatever happens. */
async function during(
  endpoints: string,
  args: readonly string[],
  body: (child: Child) => Promise<void>,
): Promise<void> {
  const child = await Child.start({
    command: "etcdctl",
    args: [`--endpoints=${endpoints}`, ...PATIENCE, ...args],
    env: ENV,
  });
  try {
    await body(child);
  } finally {
    await child.stop();
  }
}

export function etcdctlSuite(members: number, start: () => Promise<Cluster>): void {
  const cluster = clusterForSuite(start);
  const ctl = (...args: string[]) => lines(cluster().addresses.join(","), args);
  const leaseOf = (line: string | undefined): string => {
    const id = /lease ([0-9a-f]+)/.exec(line ?? "")?.[1];
    if (id === undefined) throw new Error(`no lease id: ${line}`);
    return id;
  };

  test("put, get and del with prefixes, limits, order, revisions and counts", async () => {
    for (const name of ["b", "a", "c"])
      expect(await ctl("put", `kv/${name}`, name)).toEqual(["OK"]);
    expect(await ctl("get", "kv/a")).toEqual(["kv/a", "a"]);
    expect(await ctl("get", "kv/a", "--print-value-only")).toEqual(["a"]);
    const names = ["kv/a", "kv/b", "kv/c"];
    expect(await ctl("get", "kv/", "--prefix", "--keys-only")).toEqual(names);
    expect(await ctl("get", "kv/a", "kv/c", "--keys-only")).toEqual(names.slice(0, 2));
    expect(await ctl("get", "kv/b", "--from-key", "--keys-only")).toEqual(names.slice(1));
    expect(await ctl("get", "kv/", "--prefix", "--limit=1", "--keys-only")).toEqual(["kv/a"]);
    const newest = ["--sort-by=CREATE", "--order=DESCEND"];
    expect(await ctl("get", "kv/", "--prefix", "--keys-only", ...newest)).toEqual([
      "kv/c",
      "kv/a",
      "kv/b",
    ]);
    expect(await ctl("get", "kv/a", "--consistency=s")).toEqual(["kv/a", "a"]);
    const json = JSON.parse((await ctl("get", "kv/a", "-w", "json")).join("")) as {
      kvs: { mod_revision: number }[];
    };
    await ctl("put", "kv/a", "new");
    const revision = `--rev=${json.kvs[0]?.mod_revision}`;
    expect(await ctl("get", "kv/a", revision)).toEqual(["kv/a", "a"]);
    expect(await ctl("put", "kv/a", "newer", "--prev-kv")).toEqual(["OK", "kv/a", "new"]);
    expect(await ctl("del", "kv/a", "--prev-kv")).toEqual(["1", "kv/a", "newer"]);
    expect(await ctl("del", "kv/", "--prefix")).toEqual(["2"]);
    expect(await ctl("get", "kv/", "--prefix")).toEqual([]);
  });

  test("a refused command ends with an error and says why", async () => {
    const outcome = await run(cluster().addresses[0] ?? "", ["get", "x", "--rev=1000000"]);
    expect(outcome.code).not.toBe(0);
    expect(outcome.stderr).toContain("required revision is a future revision");
  });

  test("txn runs the branch that its compares choose", async () => {
    await ctl("put", "txn/a", "1");
    const endpoints = cluster().addresses.join(",");
    const script = (value: string) =>
      `value("txn/a") = "${value}"\n\nput txn/b yes\nget txn/a\n\nput txn/b no\n\n`;
    const taken = await lines(endpoints, ["txn"], script("1"));
    expect(taken).toEqual(["SUCCESS", "OK", "txn/a", "1"]);
    expect(await lines(endpoints, ["txn"], script("2"))).toEqual(["FAILURE", "OK"]);
    expect(await ctl("get", "txn/b", "--print-value-only")).toEqual(["no"]);
  });

  test("watch prints history and what happens later", async () => {
    await ctl("put", "watch/a", "1");
    const args = ["watch", "watch/", "--prefix", "--rev=1", "--prev-kv"];
    await during(cluster().addresses.join(","), args, async (child) => {
      await child.logged("PUT\nwatch/a\n1\n");
      await ctl("put", "watch/a", "2");
      await child.logged("PUT\nwatch/a\n1\nwatch/a\n2\n");
      await ctl("del", "watch/a");
      await child.logged("DELETE\nwatch/a\n2\nwatch/a\n\n");
    });
  });

  test("lease grant, keep-alive, timetolive, list and revoke", async () => {
    const id = leaseOf((await ctl("lease", "grant", "60"))[0]);
    await ctl("put", "lease/a", "1", `--lease=${id}`);
    expect(await ctl("lease", "keep-alive", "--once", id)).toEqual([
      `lease ${id} keepalived with TTL(60)`,
    ]);
    const [ttl] = await ctl("lease", "timetolive", id, "--keys");
    expect(ttl).toMatch(new RegExp(`lease ${id} granted with TTL\\(60s\\).*\\[lease/a\\]`));
    expect((await ctl("lease", "list")).slice(1)).toContain(id);
    expect(await ctl("lease", "revoke", id)).toEqual([`lease ${id} revoked`]);
    expect(await ctl("get", "lease/a")).toEqual([]);
    expect(await ctl("lease", "timetolive", id)).toEqual([`lease ${id} already expired`]);
  });

  test("lease keep-alive goes on, and the lease lives past its TTL", async () => {
    const id = leaseOf((await ctl("lease", "grant", "4"))[0]);
    await during(cluster().addresses.join(","), ["lease", "keep-alive", id], async (child) => {
      const line = `lease ${id} keepalived with TTL(4)\n`;
      await child.logged(line.repeat(4));
    });
  });

  test("lock runs its command while it holds the lock, one holder at a time", async () => {
    const endpoints = cluster().addresses.join(",");
    expect(await ctl("lock", "mutex", "echo", "held")).toEqual(["held"]);
    await during(endpoints, ["lock", "mutex"], async (holder) => {
      await holder.logged("mutex/");
      await during(endpoints, ["lock", "mutex"], async (waiter) => {
        // The waiter's key is there, and it says so only once it holds the lock.
        while ((await ctl("get", "mutex/", "--prefix", "--keys-only")).length < 2);
        expect(waiter.log).toBe("");
        await holder.stop();
        await waiter.logged("mutex/");
      });
    });
  });

  test("elect proclaims, is observed, and hands over when the leader resigns", async () => {
    const endpoints = cluster().addresses.join(",");
    await during(endpoints, ["elect", "race", "first"], async (leader) => {
      await leader.logged("first");
      await during(endpoints, ["elect", "race", "--listen"], async (observer) => {
        await observer.logged("first");
        await during(endpoints, ["elect", "race", "second"], async (next) => {
          while ((await ctl("get", "race/", "--prefix", "--keys-only")).length < 2);
          await leader.stop();
          await next.logged("second");
          await observer.logged("second");
        });
      });
    });
  });

  test("member list, endpoint status and endpoint health name every member", async () => {
    const list = await ctl("member", "list");
    expect(list.length).toBe(members);
    for (const line of list) expect(line).toMatch(/^[0-9a-f]+, started, m\d, http:.*, http:/);
    const status = await ctl("endpoint", "status");
    expect(status.length).toBe(members);
    for (const line of status) expect(line).toMatch(/^127\.0\.0\.1:\d+, [0-9a-f]+, 3\.\d+\.\d+, /);
    expect(status.filter((line) => line.split(", ")[4] === "true").length).toBe(1);
    const health = await run(cluster().addresses.join(","), ["endpoint", "health"]);
    expect(health.code).toBe(0);
    const reports = (health.stdout + health.stderr).match(/is healthy: successfully committed/g);
    expect(reports?.length).toBe(members);
  });

  test("compaction hides old revisions", async () => {
    await ctl("put", "compact/a", "1");
    await ctl("put", "compact/a", "2");
    const json = JSON.parse((await ctl("get", "compact/a", "-w", "json")).join("")) as {
      header: { revision: number };
    };
    const { revision } = json.header;
    const [line] = await ctl("compaction", String(revision));
    expect(line).toBe(`compacted revision ${revision}`);
    const outcome = await run(cluster().addresses[0] ?? "", ["get", "x", `--rev=${revision - 1}`]);
    expect(outcome.stderr).toContain("required revision has been compacted");
  });

  test("defrag and endpoint hashkv answer for every member, with one hash", async () => {
    await ctl("put", "maintain/a", "1");
    const defragmented = await ctl("defrag");
    expect(defragmented.length).toBe(members);
    for (const line of defragmented) expect(line).toMatch(/^Finished defragmenting etcd member/);
    const hashesOf = async (): Promise<number> => {
      const hashes = await ctl("endpoint", "hashkv");
      expect(hashes.length).toBe(members);
      for (const line of hashes) expect(line).toMatch(/^127\.0\.0\.1:\d+, \d+$/);
      return new Set(hashes.map((line) => line.split(", ")[1])).size;
    };
    // Each answers at its own revision: a follower may be about to apply the last write.
    await expect.poll(hashesOf).toBe(1);
    expect(await ctl("get", "maintain/a", "--print-value-only")).toEqual(["1"]);
  });

  test("snapshot save writes a file that ends with the hash of what stands before", async () => {
    await ctl("put", "saved/a", "1");
    const directory = makeTempDir("snapshot");
    try {
      const path = join(directory, "saved.db");
      const outcome = await run(cluster().addresses[0] ?? "", ["snapshot", "save", path]);
      expect(outcome.code, outcome.stderr).toBe(0);
      expect(outcome.stdout).toContain(`Snapshot saved at ${path}`);
      const file = readFileSync(path);
      expect(file.length % 512).toBe(32);
      const digest = createHash("sha256").update(file.subarray(0, -32)).digest();
      expect(Buffer.compare(file.subarray(-32), digest)).toBe(0);
    } finally {
      removeTempDir(directory);
    }
  });

  /** Again while it is refused only because it comes too early. */
  const ctlWhenHealthy = async (...args: string[]): Promise<string[]> => {
    const addresses = cluster()
      .members.slice(0, members)
      .map(({ address }) => address);
    for (let attempt = 0; ; attempt += 1) {
      const { code, stdout, stderr } = await run(addresses.join(","), args);
      if (code === 0) return stdout.split("\n").filter((line) => line !== "");
      if (attempt > 200 || !NOT_YET.some((text) => stderr.includes(text))) {
        throw new Error(`${args.join(" ")}: ${stderr}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  };

  test("member add, update, promote and remove of a learner that joins", async () => {
    const learner = await cluster().prepare(cluster().members.slice(0, members));
    const added = await ctlWhenHealthy(
      "member",
      "add",
      learner.name,
      "--learner",
      `--peer-urls=${learner.peerUrl}`,
    );
    const id = /^Member\s+([0-9a-f]+) added to cluster/.exec(added[0] ?? "")?.[1] ?? "";
    expect(added).toContain(`ETCD_NAME="${learner.name}"`);
    expect(added).toContain('ETCD_INITIAL_CLUSTER_STATE="existing"');
    const others = cluster().members.slice(0, members);
    const inCluster = (...args: string[]) => {
      return lines(others.map(({ address }) => address).join(","), args);
    };
    expect(await inCluster("member", "list")).toHaveLength(members + 1);
    await learner.start();
    await inCluster("put", "member/a", "1");
    const promoted = await ctlWhenHealthy("member", "promote", id);
    expect(promoted[0]).toMatch(new RegExp(`^Member\\s+${id} promoted in cluster`));
    // It may have yet to hear of its own promotion.
    const read = () => lines(learner.address, ["get", "member/a", "--print-value-only"]);
    await expect.poll(read).toEqual(["1"]);
    const updated = await inCluster("member", "update", id, `--peer-urls=${learner.peerUrl}`);
    expect(updated[0]).toMatch(new RegExp(`^Member\\s+${id} updated in cluster`));
    const removed = await ctlWhenHealthy("member", "remove", id);
    expect(removed[0]).toMatch(new RegExp(`^Member\\s+${id} removed from cluster`));
    await learner.child.ended();
    expect(learner.child.exitCode).toBe(0);
    expect(await inCluster("member", "list")).toHaveLength(members);
    cluster().members.pop();
  });

  test("move-leader hands over to the member named", async () => {
    if (members === 1) return;
    const status = await ctl("endpoint", "status");
    const fields = status.map((line) => line.split(", "));
    const leader = fields.find((each) => each[4] === "true")?.[1];
    const target = fields.find((each) => each[4] === "false")?.[1] ?? "";
    expect(await ctl("move-leader", target)).toEqual([
      `Leadership transferred from ${leader} to ${target}`,
    ]);
  });

  test("alarm list and disarm", async () => {
    expect(await ctl("alarm", "list")).toEqual([]);
    expect(await ctl("alarm", "disarm")).toEqual([]);
  });
}
