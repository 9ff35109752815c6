/** Histories taken through the edge, for the checker: some clients ask at random, and note what they hear. */
import { Prng } from "../../shared/base/prng.ts";
import type { Answer, ObservedKv, Operation, Request } from "../sim/history.ts";
import type { Edge } from "./edge.ts";

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

function observed(kv: object): ObservedKv {
  return { lease: 0n, ...kv } as ObservedKv;
}

/** One HTTP request, and how its answer reads as the checker's. */
async function ask(edge: Pick<Edge, "fetch">, request: Request): Promise<Operation["outcome"]> {
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

export async function takeHistory(
  edge: Pick<Edge, "fetch">,
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
