/** Reads by consistency level: what each answer says of itself, and tokens that travel. */
import { expect, test } from "vitest";
import { answered, jsonOf, problemOf } from "./edge.ts";
import type { Edge } from "./edge.ts";

interface Facts {
  readonly revision: number;
  readonly term: number;
  readonly servedBy: string | null;
  readonly age: string | null;
  readonly session: string;
  readonly consistency: string | null;
}

async function factsOf(response: Response): Promise<Facts> {
  await response.body?.cancel();
  const { headers } = response;
  return {
    revision: Number(headers.get("x-quorate-revision")),
    term: Number(headers.get("x-quorate-term")),
    servedBy: headers.get("x-quorate-served-by"),
    age: headers.get("x-quorate-age"),
    session: headers.get("x-quorate-session") ?? "",
    consistency: headers.get("x-quorate-consistency"),
  };
}

/** `readsBy`: who serves reads. */
export function consistencySuite(edgeOf: () => Edge, readsBy = /^peer [0-9a-f]+$/): void {
  const write = async (body: string): Promise<Facts> =>
    factsOf(await edgeOf().fetch("/kv/level", { method: "PUT", body }));

  test("each answer names who served it, revision, term, age and level", async () => {
    const written = await write("1");
    expect(written.servedBy).toMatch(/^peer [0-9a-f]+$/);
    expect(written.revision).toBeGreaterThan(1);
    expect(written.session).toMatch(new RegExp(`^[0-9a-f]+-${written.revision}$`));
    const levels = [
      ["/kv/level", "linearizable"],
      ["/kv/level?consistency=linearizable", "linearizable"],
      ["/kv/level?consistency=serializable", "serializable"],
      ["/kv/level?serializable=true", "serializable"],
      ["/kv/level?consistency=bounded&maxAge=10000", "bounded"],
      [`/kv/level?consistency=session&session=${written.session}`, "session"],
      ["/kv?prefix=level", "linearizable"],
      ["/kv?prefix=level&consistency=serializable", "serializable"],
      ["/kv/level-missing?consistency=serializable", "serializable"],
    ] as const;
    const terms: number[] = [];
    for (const [path, consistency] of levels) {
      const facts = await factsOf(await edgeOf().fetch(path));
      expect([path, facts.consistency]).toEqual([path, consistency]);
      expect(facts.servedBy).toMatch(readsBy);
      terms.push(facts.term);
      if (consistency === "linearizable") expect(facts.age).toBe("0");
      if (consistency === "bounded") expect(Number(facts.age)).toBeLessThanOrEqual(10_000);
    }
    const after = await write("2");
    expect(Math.max(...terms)).toBeLessThanOrEqual(after.term);
    // On a slow machine there may have been an election, of which not every member knows at once.
    if (after.term === written.term) expect(new Set(terms)).toEqual(new Set([written.term]));
    else expect(Math.min(...terms)).toBeGreaterThan(0);
  });

  test("a session reads its own writes, and those of whoever gave it a token", async () => {
    for (let turn = 0; turn < 10; turn += 1) {
      const { session, revision } = await write(`turn ${turn}`);
      const byParameter = await edgeOf().fetch(`/kv/level?consistency=session&session=${session}`);
      expect(Number(byParameter.headers.get("x-quorate-revision"))).toBeGreaterThanOrEqual(
        revision,
      );
      expect(await byParameter.text()).toBe(`turn ${turn}`);
      const headers = { "x-quorate-session": session };
      const byHeader = await edgeOf().fetch("/kv/level?consistency=session", { headers });
      expect(await byHeader.text()).toBe(`turn ${turn}`);
    }
  });

  test("a bounded read is at most as old as it says", async () => {
    await write("bounded");
    const now = await edgeOf().fetch("/kv/level?consistency=bounded&maxAge=0");
    expect(await now.text()).toBe("bounded");
  });

  test("a token of a revision that never was, or of another cluster, is refused", async () => {
    const { session, revision } = await write("x");
    const [cluster] = session.split("-");
    const path = "/kv/level?consistency=session&session=";
    const future = await edgeOf().fetch(`${path}${cluster}-${revision + 1_000_000}`);
    expect(await problemOf(future, 400)).toMatchObject({ outcome: "none" });
    const foreign = await edgeOf().fetch(`${path}1-${revision}`);
    expect((await problemOf(foreign, 400)).title).toContain("cluster ID mismatch");
  });

  test("NDJSON takes levels too", async () => {
    const { session } = await write("lines");
    const path = `/kv?prefix=level&format=ndjson&consistency=session&session=${session}`;
    const lines = (await (await edgeOf().fetch(path)).text()).trim().split("\n");
    expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({ complete: true });
    await jsonOf(await answered(() => edgeOf().fetch("/healthz")));
  });
}
