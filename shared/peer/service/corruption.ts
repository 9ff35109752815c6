/**
 * Compares this cluster's members by the hash of their key-values (HashKV) at one revision. The leader
 * does so now and then, and after compactions if asked to; each member may do so before it serves.
 * Only hashes of the same compacted revision are comparable: a member that is behind, has compacted
 * further or can't be reached is left out.
 *
 * What most voters agree on is right. A member that differs from them gets the CORRUPT alarm, which
 * refuses writes everywhere until an operator has replaced that member. Where there is no such
 * majority nobody knows who is right: the alarm names member 0, as etcd's does.
 */
import { RpcError } from "../../api/errors.ts";
import type { HashResult } from "../../mvcc/store.ts";
import type { PeerCall, PeerReply } from "../../wire/peer-call.ts";
import type { UpkeepConfig } from "../peer.ts";
import type { ServiceContext } from "./context.ts";
import { runCursor } from "./range-reader.ts";

type HashCall = Extract<PeerCall, { kind: "hashKv" }>;
type HashReply = Extract<PeerReply, { kind: "hashKv" }>;

/** How long a member may take over its hash (etcd: 30 s). */
const HASH_MILLISECONDS = 30_000;
/** How long a member that is behind waits for the revision it is asked about. */
const BEHIND_MILLISECONDS = 1000;
const POLL_MILLISECONDS = 50;
/** How long a starting member looks for the others. */
const CONNECT_MILLISECONDS = 2000;

export class Corruption {
  readonly #context: ServiceContext;
  readonly #config: UpkeepConfig;
  /** The compacted revision that was compared last. */
  #compared = -1;
  #checking = false;
  #timers: (() => void)[] = [];

  constructor(context: ServiceContext, config: UpkeepConfig) {
    this.#context = context;
    this.#config = config;
  }

  start(): void {
    const { corruptCheckMilliseconds, compactHashCheckMilliseconds } = this.#config;
    this.#every(corruptCheckMilliseconds, () => this.compare(0));
    this.#every(compactHashCheckMilliseconds, async () => {
      const { compactRevision } = this.#context.state.store;
      if (compactRevision <= this.#compared) return;
      if (await this.compare(compactRevision)) this.#compared = compactRevision;
    });
  }

  stop(): void {
    for (const cancel of this.#timers) cancel();
    this.#timers = [];
  }

  /** Another member asks. */
  async answer(call: HashCall): Promise<HashReply> {
    const { store } = this.#context.state;
    for (let waited = 0; waited < BEHIND_MILLISECONDS; waited += POLL_MILLISECONDS) {
      if (call.revision <= store.revision) break;
      await this.#sleep(POLL_MILLISECONDS);
    }
    return { kind: "hashKv", result: await this.#ownHash(call.revision) };
  }

  /**
   * For a member that has just started: rejects if others agree on another hash than this one's. Those
   * that don't answer soon say nothing.
   */
  async checkInitially(): Promise<void> {
    const { host, state, config } = this.#context;
    if (state.store.revision <= 1) return;
    const own = await this.#ownHash(0);
    if (own === undefined) return;
    const hashes = await this.#askOthers(own.hashRevision, host.now() + CONNECT_MILLISECONDS);
    const different = [...hashes].filter(
      ([, each]) => isComparable(each, own) && each.hash !== own.hash,
    );
    host.report("info", "the initial corruption check is done", {
      revision: own.hashRevision,
      compared: hashes.size,
    });
    if (different.length === 0) return;
    const members = different.map(([member]) => member.toString(16)).join(", ");
    throw new Error(
      `member ${config.memberId.toString(16)} found data inconsistency with peers: at revision ${own.hashRevision} ` +
        `its hash differs from that of ${members}; if it is the odd one, remove it and add it anew with an empty directory`,
    );
  }

  /**
   * Compares all members at a revision (0: the current one), if this one leads, and raises alarms.
   * True if every other member could be compared.
   */
  async compare(revision: number): Promise<boolean> {
    const { state, host, consensus, config } = this.#context;
    if (!consensus.leadership.leads || this.#checking) return false;
    this.#checking = true;
    try {
      const own = await this.#ownHash(revision);
      if (own === undefined) return false;
      const hashes = await this.#askOthers(own.hashRevision, host.now());
      const comparable = new Map<bigint, number>([[config.memberId, own.hash]]);
      for (const [member, each] of hashes) {
        if (isComparable(each, own)) comparable.set(member, each.hash);
      }
      const { members } = state.members;
      const voters = members.filter(({ isLearner }) => !isLearner).map(({ id }) => id);
      for (const member of oddOnes(comparable, voters)) this.#alarm(member, own);
      return comparable.size === members.length;
    } finally {
      this.#checking = false;
    }
  }

  async #ownHash(revision: number): Promise<HashResult | undefined> {
    const { state, host } = this.#context;
    const cursor = state.store.openHash(revision);
    if ("code" in cursor) return undefined;
    try {
      return await runCursor(cursor, state, host);
    } catch (error) {
      if (error instanceof RpcError) return undefined; // The state was replaced meanwhile.
      throw error;
    }
  }

  /** The answers that came; one who can't be reached is asked again until `connectUntil`. */
  async #askOthers(revision: number, connectUntil: number): Promise<Map<bigint, HashResult>> {
    const { state, host, config } = this.#context;
    const answers = new Map<bigint, HashResult>();
    const ask = async (member: bigint): Promise<void> => {
      for (;;) {
        try {
          const call = { kind: "hashKv", revision } as const;
          const reply = await host.transport.call(String(member), call, HASH_MILLISECONDS);
          if (reply.kind === "hashKv" && reply.result !== undefined) {
            answers.set(member, reply.result);
          }
          return;
        } catch {
          if (host.now() >= connectUntil) return;
          await this.#sleep(POLL_MILLISECONDS);
        }
      }
    };
    const others = state.members.members.filter(({ id }) => id !== config.memberId);
    await Promise.all(others.map(({ id }) => ask(id)));
    return answers;
  }

  #alarm(member: bigint, own: HashResult): void {
    const { state, host, consensus } = this.#context;
    const known = state.members.alarms.some(
      (each) => each.alarm === "corrupt" && each.member === member,
    );
    if (known) return;
    host.report("error", "data of members differ: raising the CORRUPT alarm", {
      member: member.toString(16),
      revision: own.hashRevision,
    });
    const ignore = { applied: () => {}, failed: () => {} }; // The next check asks again.
    consensus.propose({ kind: "alarm", action: "activate", member, alarm: "corrupt" }, ignore);
  }

  #every(milliseconds: number, check: () => Promise<unknown>): void {
    if (milliseconds <= 0) return;
    const { host } = this.#context;
    const place = this.#timers.length;
    const run = (): void => {
      this.#timers[place] = host.schedule(milliseconds, run);
      check().catch((error: unknown) => {
        host.report("warn", "a corruption check failed", { error });
      });
    };
    this.#timers.push(host.schedule(milliseconds, run));
  }

  #sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      this.#context.host.schedule(milliseconds, resolve);
    });
  }
}

function isComparable(a: HashResult, b: HashResult): boolean {
  return a.hashRevision === b.hashRevision && a.compactRevision === b.compactRevision;
}

/**
 * Whose hash differs from the one that a majority of the voters has; member 0 alone if hashes differ
 * and none has a majority.
 */
export function oddOnes(
  hashes: ReadonlyMap<bigint, number>,
  voters: readonly bigint[],
): readonly bigint[] {
  if (new Set(hashes.values()).size <= 1) return [];
  const votes = new Map<number, number>();
  for (const voter of voters) {
    const hash = hashes.get(voter);
    if (hash !== undefined) votes.set(hash, (votes.get(hash) ?? 0) + 1);
  }
  const right = [...votes].find(([, count]) => count > voters.length / 2)?.[0];
  if (right === undefined) return [0n];
  return [...hashes].filter(([, hash]) => hash !== right).map(([member]) => member);
}
