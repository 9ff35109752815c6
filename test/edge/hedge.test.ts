/**
 * Hedged reads of the edge, before two peers that answer when the test says so: nothing here waits
 * for a duration. Which peer answered shows in the value, as each has its own.
 */
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { attachLink } from "../../node-runner/link/link-door.ts";
import type { LinkDoor } from "../../node-runner/link/link-door.ts";
import { utf8 } from "../../shared/base/bytes.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import { PATIENT_CALL } from "../support/in-process-cluster.ts";
import { MemoryServices } from "../support/memory-services.ts";
import { startOnNode, startWorkerd } from "./edge.ts";
import type { Edge, EdgeVariables, StartEdge } from "./edge.ts";

/** A peer with one key, "who", whose value is its name. `hold` keeps calls back until `release`. */
class HeldPeer {
  readonly services: MemoryServices;
  readonly #server: Server = createServer();
  readonly #door: LinkDoor;
  #release: () => void = () => undefined;

  private constructor(memberId: bigint) {
    this.services = new MemoryServices(memberId);
    const options = {
      clusterId: this.services.clusterId,
      memberId,
      secret: undefined,
      knowsCallers: false,
      origins: [],
    };
    this.#door = attachLink(this.#server, this.services, options);
  }

  static async start(name: string, memberId: bigint): Promise<HeldPeer> {
    const peer = new HeldPeer(memberId);
    await new Promise<void>((resolve) => peer.#server.listen(0, "127.0.0.1", resolve));
    const op = { kind: "put", key: utf8("who"), value: utf8(name), lease: 0n } as const;
    const rest = { previousKv: false, ignoreValue: false, ignoreLease: false };
    await peer.services.kv.put({ ...op, ...rest }, PATIENT_CALL);
    peer.services.calls.length = 0;
    return peer;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  asked(method: string): number {
    return this.services.calls.filter((each) => each === method).length;
  }

  /** `asked` hears of each call that is held. */
  hold(asked: () => void = () => undefined): void {
    const held = new Promise<void>((resolve) => {
      this.#release = resolve;
    });
    const before = (): Promise<void> => {
      asked();
      return held;
    };
    this.services.fault = { before };
  }

  release(): void {
    this.#release();
    this.services.fault = {};
  }

  stop(): void {
    this.release();
    this.#door.close();
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

/** Long enough that no failover comes before what is tested here. */
const PATIENT: EdgeVariables = { QUORATE_TIMEOUT_MS: "60000" };
const long = () => ({ signal: AbortSignal.timeout(110_000) });

/** Workerd is asked for the whole once: its own `fetch` gives the loser up. */
describe.each<[string, StartEdge, boolean]>([
  ["in workerd", startWorkerd, true],
  ["on Node", startOnNode, false],
])("hedged reads %s", (_name, start, only) => {
  const peers: HeldPeer[] = [];
  let edge: Edge | undefined;
  afterEach(async () => {
    // Their callers first: a peer that is gone would be asked again.
    for (const peer of peers) peer.release();
    await edge?.stop();
    for (const peer of peers.splice(0)) peer.stop();
  });

  async function open(
    count: 1 | 2,
    variables: EdgeVariables = {},
  ): Promise<{ near: HeldPeer; far: HeldPeer; edge: Edge }> {
    const near = await HeldPeer.start("near", 0xa1n);
    const far = await HeldPeer.start("far", 0xa2n);
    peers.push(near, far);
    const urls = [near, far].slice(0, count).map(({ url }) => url);
    edge = await start(urls, { ...PATIENT, ...variables });
    return { near, far, edge };
  }

  test("a read that hangs at one peer is answered by the next, a write waits", async () => {
    const { near, far, edge } = await open(2);
    near.hold();
    const writing = edge.fetch("/kv/w", { ...long(), method: "PUT", body: "x" });
    writing.catch(() => undefined);
    await expect.poll(() => near.asked("put"), { timeout: 30_000 }).toBe(1);
    const reads = ["linearizable", "serializable", "session"].map(async (level) => {
      const got = await edge.fetch(`/kv/who?consistency=${level}`, long());
      expect([await got.text(), got.headers.get("x-quorate-served-by")]).toEqual([
        "far",
        "peer a2",
      ]);
    });
    await Promise.all(reads);
    // Three reads were late and went to a second peer; the write, older than they, did not.
    expect([near.asked("put"), far.asked("put")]).toEqual([1, 0]);
    near.release();
    expect((await writing).status).toBe(200);
    expect([near.asked("put"), far.asked("put")]).toEqual([1, 0]);
  });

  if (only) return;

  test("a peer that lost some hedges in a row is asked no more at first", async () => {
    const { near, far, edge } = await open(2);
    const order: string[] = [];
    near.hold(() => order.push("near"));
    far.services.fault = { before: () => void order.push("far") };
    const read = async (): Promise<string> => (await edge.fetch("/kv/who", long())).text();
    const losses = await Promise.all(Array.from({ length: LIMITS.hedgeLossesMax }, read));
    expect(new Set(losses)).toEqual(new Set(["far"]));
    expect([near.asked("range"), far.asked("range")]).toEqual([
      LIMITS.hedgeLossesMax,
      LIMITS.hedgeLossesMax,
    ]);
    order.length = 0;
    // On a machine that stands still for a while the other may be asked, too.
    expect([await read(), order[0]]).toEqual(["far", "far"]);
  });

  test("of many reads at once few are asked twice", async () => {
    const { near, far, edge } = await open(2);
    near.hold();
    far.hold();
    const count = 40;
    const most = count + LIMITS.hedgeBurst + LIMITS.hedgeShare * count;
    const asked = (): number => near.asked("range") + far.asked("range");
    const reads = Array.from({ length: count }, async () => {
      return (await edge.fetch("/kv/who", long())).text();
    });
    for (const each of reads) each.catch(() => undefined);
    await expect.poll(asked, { timeout: 30_000 }).toBeGreaterThan(count + 5);
    near.release();
    far.release();
    expect((await Promise.all(reads)).length).toBe(count);
    expect(asked()).toBeLessThanOrEqual(most);
  });

  test.each<[string, 1 | 2, EdgeVariables]>([
    ["switched off", 2, { QUORATE_HEDGE_MS: "off" }],
    ["with one peer", 1, {}],
  ])("negative control: %s, the read waits for its one peer", async (_case, count, variables) => {
    const { near, far, edge } = await open(count, variables);
    near.hold();
    const reading = edge.fetch("/kv/who", long()).then((got) => got.text());
    reading.catch(() => undefined);
    await expect.poll(() => near.asked("range"), { timeout: 30_000 }).toBe(1);
    // Later than any hedge: the wait before one, and one more.
    const hedging = open(2);
    const { near: other, edge: second } = await hedging;
    other.hold();
    expect(await (await second.fetch("/kv/who", long())).text()).toBe("far");
    await second.stop();
    expect(far.asked("range")).toBe(0);
    near.release();
    expect(await reading).toBe("near");
    await edge.stop();
  });
});
