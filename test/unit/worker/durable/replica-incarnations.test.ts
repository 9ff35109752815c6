/**
 * Two live starts of one replica over one Durable Object's SQLite. The platform may let the superseded one go on for
 * a while; it must neither answer nor write. The control, which believes that the storage is its own, shows what
 * would happen: it misses rows that its successor has compacted away.
 */
import { describe, expect, test } from "vitest";
import { EMPTY } from "../../../../shared/base/bytes.ts";
import type { Backend } from "../../../../shared/backend/backend.ts";
import { SqlBackend } from "../../../../worker/durable/sql-backend.ts";
import { ManualClock } from "../../../support/clocks.ts";
import { NodeSql } from "../../../support/node-sql.ts";
import { ScriptedCluster } from "../../../support/scripted-cluster.ts";
import {
  LINEARIZABLE,
  Watching,
  caughtUp,
  driven,
  point,
  read,
  shown,
  startReplica,
} from "../../replica/driven-replica.ts";
import type { Driven } from "../../replica/driven-replica.ts";

/** A backend that shows its reader the storage's owner as it was at the start. */
function blindToOwner(backend: Backend): Backend {
  let owner: Uint8Array | undefined;
  return new Proxy(backend, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      if (name !== "get") return member.bind(target) as unknown;
      return (...call: Parameters<Backend["get"]>) => {
        const row = target.get(...call);
        if (!new TextDecoder().decode(call[1]).includes("incarnation")) return row;
        owner ??= row ?? EMPTY;
        return owner;
      };
    },
  });
}

interface Two {
  readonly old: Driven;
  readonly next: Driven;
  readonly cluster: ScriptedCluster;
}

/** The old one has read `p/a` at its revision; the next one has gone far beyond and compacted. */
async function twoIncarnations(isBlind: boolean): Promise<Two> {
  const sql = new NodeSql();
  const clock = new ManualClock();
  const cluster = new ScriptedCluster();
  for (const key of ["p/a", "p/b"]) cluster.put(key, "first");
  const backend = new SqlBackend(sql);
  const old = startReplica({
    cluster,
    clock,
    backend: isBlind ? blindToOwner(backend) : backend,
    historyEvents: 10,
  });
  await caughtUp(old);
  cluster.put("p/a", "second");
  await caughtUp(old);
  if (isBlind) await read(old);
  const next = startReplica({ cluster, clock, backend: new SqlBackend(sql), historyEvents: 10 });
  await caughtUp(next);
  // The old one's feed is as dead as its machine; its memory lives on.
  old.replica.stop();
  for (let turn = 0; turn < 60; turn += 1) {
    cluster.put("p/a", `${turn}`);
    await clock.advance(10);
  }
  await caughtUp(next);
  await clock.advance(1000);
  return { old, next, cluster };
}

describe("two live incarnations", () => {
  test("the superseded one answers nothing, and ends", async () => {
    const { old, next, cluster } = await twoIncarnations(false);
    await expect(read(old, point("p/a"))).rejects.toThrow();
    await expect(read(old)).rejects.toThrow();
    const watching = new Watching(old);
    expect(watching.endedBy).toBeDefined();
    expect(old.fatal.length).toBeGreaterThan(0);
    expect(shown(await read(next, point("p/a")))).toEqual([`p/a=59@${cluster.store.revision}`]);
    expect(next.fatal).toEqual([]);
  });

  test("control: one that doesn't look who owns the storage misses what is there", async () => {
    const { old } = await twoIncarnations(true);
    expect(shown(await read(old, point("p/a")))).toEqual([]);
  });

  test("a feed of the superseded one writes nothing between its successor's", async () => {
    const clock = new ManualClock();
    const sql = new NodeSql();
    const cluster = new ScriptedCluster();
    cluster.put("p/a", "first");
    const old = startReplica({ cluster, clock, backend: new SqlBackend(sql) });
    await caughtUp(old);
    const next = startReplica({ cluster, clock, backend: new SqlBackend(sql) });
    await caughtUp(next);
    const at = cluster.put("p/a", "both hear of it");
    await driven(clock, read(next, {}, LINEARIZABLE));
    expect(old.fatal).toHaveLength(1);
    expect(old.replica.status.state).toBe("stopped");
    expect(shown(await read(next, point("p/a")))).toEqual([`p/a=both hear of it@${at}`]);
    expect(cluster.watches).toBe(1);
  });
});
