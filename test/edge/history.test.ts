/**
 * Histories taken through the edge are linearizable, while leaders are killed and answers are lost
 * on the way to it; and the checker sees when they are not: when retried writes lose their
 * identities, and when reads come from wherever.
 */
import { afterEach, describe, expect, test } from "vitest";
import { Prng } from "../../shared/base/prng.ts";
import type { Answer, ObservedKv, Operation, Request } from "../sim/history.ts";
import { checkLinearizable } from "../sim/linearizability.ts";
import { startQuorate } from "../support/cluster.ts";
import type { Cluster } from "../support/cluster.ts";
import { startOnNode, startWorkerd } from "./edge.ts";
import type { Edge, StartEdge } from "./edge.ts";
import { lossyPeer } from "./fake-peer.ts";
import type { Loss } from "./fake-peer.ts";

const KEYS = ["h/a", "h/b", "h/c"];
const CLIENTS = 4;

interface Json {
  readonly revision?: number;
  readonly deleted?: number;
  readonly succeeded?: boolean;
  readonly outcome?: "none" | "unknown";
  readonly current?: object | null;
  readonly kvs?: readonly object[];
}

const open: { stop(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of open.splice(0).toReversed()) await each.stop();
});

function observed(kv: object): ObservedKv {
  return { lease: 0n, ...kv } as ObservedKv;
}

/** One HTTP request, and how its answer reads as the checker's. */
async function ask(edge: Edge, request: Request): Promise<Operation["outcome"]> {
  const asJson = async (path: string, init: RequestInit): Promise<[number, Json]> => {
    const response = await edge.fetch(path, init);
    return [response.status, (await response.json()) as Json];
  };
  const failed = (json: Json): Operation["outcome"] =>
    json.outcome === "none" ? "refused" : "unknown";
  switch (request.kind) {
    case "put": {
      const init = { method: "PUT", body: request.value };
      const [status, json] = await asJson(`/kv/${request.key}`, init);
      return status === 200 ? { revision: json.revision ?? 0 } : failed(json);
    }
    case "delete": {
      const [status, json] = await asJson(`/kv/${request.key}`, { method: "DELETE" });
      if (status !== 200) return failed(json);
      return { revision: json.revision ?? 0, deleted: json.deleted ?? 0 };
    }
    case "swap": {
      const condition: Record<string, string> =
        request.expected === 0 ? { "if-none-match": "*" } : { "if-match": `"${request.expected}"` };
      const init = { method: "PUT", body: request.value, headers: condition };
      const [status, json] = await asJson(`/kv/${request.key}`, init);
      if (status === 200 || status === 201)
        return { revision: json.revision ?? 0, succeeded: true };
      if (status !== 412) return failed(json);
      const kvs = json.current === null || json.current === undefined ? [] : [json.current];
      return { revision: json.revision ?? 0, succeeded: false, kvs: kvs.map(observed) };
    }
    case "putAll": {
      const body = { do: request.keys.map((key) => ({ put: { key, value: request.value } })) };
      const init = { method: "POST", body: JSON.stringify(body) };
      const [status, json] = await asJson("/txn", init);
      return status === 200 ? { revision: json.revision ?? 0 } : failed(json);
    }
    case "range": {
      const level = request.serializable ? "&consistency=serializable" : "";
      const [status, json] = await asJson(`/kv?prefix=h/${level}`, {});
      if (status !== 200) return failed(json);
      return { revision: json.revision ?? 0, kvs: (json.kvs ?? []).map(observed) };
    }
    default:
      throw new Error(`${request.kind} is not asked here`);
  }
}

/** What a client asks next; `known`: revisions that it has seen, so that its swaps may match. */
function invent(prng: Prng, known: ReadonlyMap<string, number>, value: string): Request {
  const key = prng.pick(KEYS);
  const dice = prng.below(10);
  if (dice < 3) return { kind: "put", key, value, lease: 0n };
  if (dice < 5) return { kind: "swap", key, expected: known.get(key) ?? 0, value };
  if (dice < 6) return { kind: "delete", key, end: undefined };
  if (dice < 7) return { kind: "putAll", keys: KEYS.slice(0, 2), value };
  const serializable = dice === 9;
  return { kind: "range", key: "h/", end: "h0", serializable, atRevision: 0 };
}

async function takeHistory(
  edge: Edge,
  options: { seed: number; until: () => boolean; operationsEach: number },
): Promise<Operation[]> {
  const operations: Operation[] = [];
  const client = async (number: number): Promise<void> => {
    const prng = new Prng(options.seed * 100 + number);
    const known = new Map<string, number>();
    for (let count = 0; count < options.operationsEach && !options.until(); count += 1) {
      const request = invent(prng, known, `${number}-${count}`);
      const invoked = performance.now();
      const operation: Operation = {
        id: operations.length,
        request,
        invoked,
        returned: undefined,
        outcome: "unknown",
      };
      operations.push(operation);
      operation.outcome = await ask(edge, request).catch(() => "unknown" as const);
      if (operation.outcome !== "unknown") operation.returned = performance.now();
      for (const kv of (operation.outcome as Partial<Answer>).kvs ?? []) {
        known.set(kv.key, kv.modRevision);
      }
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, (_, number) => client(number)));
  return operations;
}

async function startLossy(start: StartEdge, loss: Loss): Promise<{ cluster: Cluster; edge: Edge }> {
  const cluster = await startQuorate({ members: 3 });
  open.push(cluster);
  const peers = [];
  for (const address of cluster.addresses) {
    const peer = await lossyPeer(`http://${address}`, loss);
    open.push(peer);
    peers.push(peer.url);
  }
  const edge = await start(peers, { QUORATE_TIMEOUT_MS: "8000" });
  open.push(edge);
  return { cluster, edge };
}

/** Kills each member in turn, and starts it again; answers are lost all the while. */
async function storm(cluster: Cluster, loss: Loss, prng: Prng): Promise<void> {
  for (const member of cluster.members) {
    for (let burst = 0; burst < 4; burst += 1) {
      loss.answers += 1 + prng.below(3);
      await new Promise((resolve) => setTimeout(resolve, 150));
    }
    await member.kill();
    await new Promise((resolve) => setTimeout(resolve, 300));
    await member.start();
  }
}

describe.each<[string, StartEdge]>([
  ["in workerd", startWorkerd],
  ["on Node", startOnNode],
])("the edge %s", (_, start) => {
  test("a history over leader kills and lost answers is linearizable", async () => {
    const seed = 20_261_121;
    const loss: Loss = { answers: 0, stripsIdentities: false, writes: 0 };
    const { cluster, edge } = await startLossy(start, loss);
    let over = false;
    const storming = storm(cluster, loss, new Prng(seed)).finally(() => {
      over = true;
    });
    const history = await takeHistory(edge, { seed, until: () => over, operationsEach: 400 });
    await storming;
    const answered = history.filter(({ outcome }) => typeof outcome === "object").length;
    const unknown = history.filter(({ outcome }) => outcome === "unknown").length;
    console.log(`seed ${seed}: ${history.length} asked, ${answered} answered, ${unknown} unknown`);
    expect(answered).toBeGreaterThan(40);
    expect(loss.writes).toBeGreaterThan(10);
    expect(checkLinearizable(history)).toMatchObject({ ok: true });
  });
});

describe("negative controls, which the checker must refuse", () => {
  test("retried writes without their identities", async () => {
    const loss: Loss = { answers: 40, stripsIdentities: true, writes: 0 };
    const { edge } = await startLossy(startOnNode, loss);
    const history = await takeHistory(edge, { seed: 7, until: () => false, operationsEach: 30 });
    const verdict = checkLinearizable(history);
    expect(verdict.ok).toBe(false);
  });

  test("a read that an edge answers from what it remembers", async () => {
    const loss: Loss = { answers: 0, stripsIdentities: false, writes: 0 };
    const { edge } = await startLossy(startOnNode, loss);
    const remembered = new Map<string, Response>();
    const caching: Edge = {
      ...edge,
      fetch: async (path, init = {}) => {
        const read = init.method === undefined && !path.includes("serializable");
        const kept = read ? remembered.get(path) : undefined;
        if (kept !== undefined) return kept.clone();
        const response = await edge.fetch(path, init);
        if (read) remembered.set(path, response.clone());
        return response;
      },
    };
    const history = await takeHistory(caching, { seed: 9, until: () => false, operationsEach: 20 });
    const verdict = checkLinearizable(history);
    expect(verdict.ok ? "" : verdict.reason).toContain("was answered before it began");
  });
});
