/**
 * Three members that speak the older version are upgraded one by one under load. Nothing that was
 * answered is lost; what the newer version brought (writes that are sent again and apply once) is
 * refused, and stands in no log, until the last member can read it; then it works, and there is no
 * way back.
 */
import { expect, test } from "vitest";
import { runCommand } from "../../node-runner/commands/commands.ts";
import { Prng } from "../../shared/base/prng.ts";
import { connect } from "../../shared/client/index.ts";
import { PEER_VERSION_MIN } from "../../shared/wire/peer-codec.ts";
import { checkLinearizable } from "../sim/linearizability.ts";
import { startQuorate } from "../support/cluster.ts";
import type { Member } from "../support/cluster.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { RecordedClients, watchedHistory } from "../support/recorded-clients.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import { CRASHABLE, crashEnv } from "./crash-plan.ts";

const CLIENTS = 4;
const PROGRESS_MILLISECONDS = 90_000;

const NEW = crashEnv({ disk: "real", seed: 1 });
const OLD = crashEnv({ disk: "real", seed: 1, peerVersion: PEER_VERSION_MIN });

/** How many entries of a member's log carry the identity of a write. */
async function identitiesIn(member: Member): Promise<number> {
  let text = "";
  const take = (piece: string): void => void (text += piece);
  await runCommand(["wal", "dump", member.dataDir, "--json"], { out: take, err: take });
  expect(text).toContain('"kind":"put"');
  return text.split("\n").filter((line) => line.includes('"identity":{"client"')).length;
}

test("an upgrade under load, member by member", async () => {
  const cluster = await startQuorate({
    members: 3,
    program: CRASHABLE,
    env: OLD,
  });
  const recorded = new RecordedClients();
  const over = new AbortController();
  const channels = new Map<Member, EtcdClient>();
  const clientOf = (member: Member): EtcdClient => {
    const known = channels.get(member) ?? new EtcdClient(new GrpcChannel(member.address));
    channels.set(member, known);
    return known;
  };
  const prng = new Prng(5);
  const load = recorded.run({
    count: CLIENTS,
    prng,
    signal: over.signal,
    pick: () => clientOf(prng.pick(cluster.members)),
  });
  const progress = async (): Promise<void> => {
    const goal = recorded.answered + 50;
    await expect
      .poll(() => recorded.answered, { timeout: PROGRESS_MILLISECONDS })
      .toBeGreaterThan(goal);
  };
  /** A write of the TypeScript client: it carries an identity, so that it may be sent again. */
  const putOnce = async (): Promise<void> => {
    const endpoints = cluster.addresses.map((address) => `http://${address}`);
    const store = connect({ endpoints });
    try {
      await store.put("zz/once", "x");
    } finally {
      store.close();
    }
  };
  try {
    for (const member of cluster.members) {
      await progress();
      await expect(putOnce()).rejects.toThrow("etcdserver: not capable");
      expect(await identitiesIn(member)).toBe(0);
      await member.stop();
      channels.get(member)?.close();
      channels.delete(member);
      await member.start(NEW);
    }
    await expect
      .poll(() => putOnce().then(() => "taken", String), { timeout: PROGRESS_MILLISECONDS })
      .toBe("taken");
    await progress();
    for (const member of cluster.members) {
      await expect
        .poll(() => identitiesIn(member), { timeout: PROGRESS_MILLISECONDS })
        .toBeGreaterThan(0);
    }
    over.abort();
    await load;
    const [first] = cluster.members as [Member];
    const events = await watchedHistory(clientOf(first));
    const shown = new Map([...events].filter(([, list]) => list[0]?.kv.key !== "zz/once"));
    const places = [...events.keys()].filter((revision) => !shown.has(revision));
    // One that was taken, and such before it whose answer didn't come in time.
    expect(places.length).toBeGreaterThan(0);
    // The writes that the recorded clients didn't make, as some of theirs.
    for (const revision of places) {
      recorded.operations.push({
        id: recorded.operations.length,
        request: { kind: "put", key: "zz/once", value: "x", lease: 0n },
        invoked: 0,
        returned: performance.now(),
        outcome: { revision },
      });
    }
    expect(checkLinearizable(recorded.operations, { events, stepsMax: 5_000_000 })).toMatchObject({
      ok: true,
    });
    await first.stop();
    await first.launch(OLD);
    await first.child.ended();
    expect(first.child.exitCode).toBe(1);
    expect(first.child.log).toContain(
      "the cluster's version is 2, this peer speaks 1: run a newer one",
    );
  } finally {
    over.abort();
    await load;
    for (const client of channels.values()) client.close();
    await cluster.stop();
  }
});
