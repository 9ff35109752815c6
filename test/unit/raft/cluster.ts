/**
 * A cluster of raft nodes on one thread, for the tests: each on a memory log whose flushes the
 * test decides, with a state machine that is the list of commands it applied. Messages lie in one
 * queue until the test delivers, drops or repeats them. `crash` loses what was not flushed.
 */
import { assert } from "../../../shared/base/assert.ts";
import { EMPTY, textOf, utf8 } from "../../../shared/base/bytes.ts";
import { simpleMembership } from "../../../shared/raft/log-store.ts";
import { MemoryLogStore } from "../../../shared/raft/memory-log-store.ts";
import { changeMembership } from "../../../shared/raft/membership.ts";
import { createRaft } from "../../../shared/raft/raft.ts";
import type {
  ConfChange,
  Entry,
  Membership,
  Message,
  NodeId,
  RaftConfig,
  RaftNode,
  Ready,
  ReadState,
  SnapshotMark,
} from "../../../shared/raft/types.ts";

/** A state of the state machine: the commands up to `mark.index`, "" for empty entries. */
export interface Image {
  readonly mark: SnapshotMark;
  readonly commands: readonly string[];
}

/** A message on its way; a snapshot carries its data along. */
export interface Parcel {
  readonly message: Message;
  readonly image: Image | undefined;
}

export type Tuning = Partial<
  Omit<RaftConfig, "id" | "hardState" | "membership" | "applied" | "seed">
>;

const DEFAULTS = {
  electionTicks: 10,
  heartbeatTicks: 1,
  preVote: true,
  checkQuorum: true,
  appendBytesMax: 1 << 20,
  appendsInFlightMax: 256,
  appendBytesInFlightMax: 1 << 24,
  uncommittedBytesMax: 1 << 26,
  committedBytesMax: 1 << 22,
} as const;

/** The text of a membership change: "addVoter:4 remove:2", with "explicit" for such a transition. */
export function encodeChange(text: string): Uint8Array {
  return utf8(text);
}

function decodeChange(data: Uint8Array): ConfChange {
  const words = textOf(data).split(" ").filter(Boolean);
  const steps = words
    .filter((word) => word.includes(":"))
    .map((word) => {
      const [action, id] = word.split(":") as [ConfChange["steps"][number]["action"], NodeId];
      return { action, id };
    });
  const transition = words.includes("explicit") ? "explicit" : "auto";
  return { steps, transition, context: EMPTY };
}

export class Host {
  readonly id: NodeId;
  readonly cluster: Cluster;
  raft: RaftNode;
  store: MemoryLogStore;
  /** Applied commands: commands[i] is that of index i + 1. */
  commands: string[];
  membership: Membership;
  readonly readStates: ReadState[] = [];
  #clock: number;
  /** Durable: where the state machine starts again. */
  image: Image;
  /** Snapshots in messages that were handed to raft, until their Ready comes. */
  #received: Image[] = [];
  #installing: { readonly sequence: number; readonly image: Image }[] = [];
  #held: { readonly sequence: number; readonly messages: readonly Message[] }[] = [];
  #durableSequence = 0;
  #writtenSequence = 0;
  #starts = 0;

  constructor(cluster: Cluster, id: NodeId, image: Image) {
    this.cluster = cluster;
    this.id = id;
    this.#clock = 1000 * Number(id);
    this.image = image;
    this.store = new MemoryLogStore({ flush: "explicit" });
    this.commands = [];
    this.membership = image.mark.membership;
    this.raft = this.#start();
  }

  get appliedIndex(): number {
    return this.commands.length;
  }

  /** Takes one Ready: writes its entries (flushed later), sends, applies. */
  process(): Ready {
    const ready = this.raft.ready();
    this.#write(ready);
    for (const message of ready.messages) this.cluster.post(message);
    if (ready.messagesAfterDurable.length > 0) {
      this.#held.push({ sequence: ready.sequence, messages: ready.messagesAfterDurable });
    }
    this.#release();
    if (ready.committed.length > 0) this.#apply(ready.committed);
    this.readStates.push(...ready.readStates);
    this.cluster.observe(this, ready);
    return ready;
  }

  /** Makes the oldest `count` writes durable, or all. */
  flush(count?: number): void {
    this.store.flush(count);
  }

  /** Forgets the log up to `index`, whose effects the image then holds. */
  compact(index: number): void {
    assert(index <= this.appliedIndex && index < this.store.lastIndex + 1, "compact the applied");
    const term = this.store.termOf(index);
    assert(term !== undefined, "compact what is there");
    const mark = { index, term, membership: this.membership };
    this.image = { mark, commands: this.commands.slice(0, index) };
    this.store.compact(index);
  }

  /** Stops and starts again from what was durable. */
  restart(): void {
    this.store = this.store.crash();
    this.#held = [];
    this.#installing = [];
    this.#received = [];
    this.#durableSequence = 0;
    this.#writtenSequence = 0;
    this.raft = this.#start();
  }

  receive(parcel: Parcel): void {
    if (parcel.image !== undefined) this.#received.push(parcel.image);
    this.raft.step(parcel.message, this.now);
  }

  /** A tick, and the time that it takes. */
  tick(): void {
    this.pass(this.cluster.tuning.leaderLease?.tickMilliseconds ?? 0);
    this.raft.tick(this.now);
  }

  /** Time passes on its clock, whether or not it ticks. */
  pass(milliseconds: number): void {
    this.#clock += milliseconds;
  }

  /** Its steady clock, where leases are in use; its zero means nothing. */
  get now(): number | undefined {
    return this.cluster.tuning.leaderLease === undefined ? undefined : this.#clock;
  }

  imageNow(): Image {
    const mark = this.#mark();
    return { mark, commands: this.commands.slice() };
  }

  #mark(): SnapshotMark {
    const index = this.appliedIndex;
    const term = index === this.image.mark.index ? this.image.mark.term : this.store.termOf(index);
    assert(term !== undefined, "the applied entry is in the log");
    return { index, term, membership: this.membership };
  }

  #start(): RaftNode {
    const { mark, commands } = this.image;
    if (this.store.firstIndex - 1 < mark.index) {
      // The image may be newer than the log: start the log behind it.
      if (this.store.lastIndex < mark.index || this.store.termOf(mark.index) !== mark.term) {
        const write = { snapshot: mark, hardState: undefined, entries: [], mustSync: true };
        this.store.append({ ...write, sequence: 1 });
        this.store.flush();
        this.store = this.store.crash();
      }
    }
    this.commands = commands.slice();
    this.membership = mark.membership;
    this.#starts += 1;
    const { store } = this;
    store.onDurable = (sequence) => this.#onDurable(sequence);
    const reader = {
      get firstIndex() {
        return store.firstIndex;
      },
      get lastIndex() {
        return store.lastIndex;
      },
      termOf: (index: number) => store.termOf(index),
      slice: (low: number, high: number, bytesMax: number) => store.slice(low, high, bytesMax),
      snapshot: () => this.#mark(),
    };
    const config: RaftConfig = {
      ...DEFAULTS,
      ...this.cluster.tuning,
      id: this.id,
      seed: this.cluster.seed * 7919 + Number(this.id) * 101 + this.#starts,
      hardState: store.hardState ?? { term: 0, vote: undefined, commit: 0 },
      membership: this.membership,
      applied: mark.index,
    };
    return createRaft(config, reader);
  }

  #write(ready: Ready): void {
    const { sequence, snapshot, hardState, entries, mustSync } = ready;
    if (snapshot === undefined && hardState === undefined && entries.length === 0) return;
    if (snapshot !== undefined) {
      const image = this.#received.find((each) => each.mark.index === snapshot.index);
      assert(image !== undefined, "a snapshot comes with its data");
      this.#received = [];
      this.#installing.push({ sequence, image });
      this.commands = image.commands.slice();
      this.membership = image.mark.membership;
    }
    this.#writtenSequence = sequence;
    this.store.append({ sequence, snapshot, hardState, entries, mustSync });
  }

  #onDurable(sequence: number): void {
    this.#durableSequence = sequence;
    for (const each of this.#installing) if (each.sequence <= sequence) this.image = each.image;
    this.#installing = this.#installing.filter((each) => each.sequence > sequence);
    this.#release();
    this.raft.persisted(sequence);
  }

  /** Sends what waited for writes that are durable by now. */
  #release(): void {
    const allWritten = this.#durableSequence >= this.#writtenSequence;
    while (this.#held.length > 0) {
      const [first] = this.#held;
      if (first === undefined) break;
      if (!allWritten && first.sequence > this.#durableSequence) break;
      for (const message of first.messages) this.cluster.post(message);
      this.#held.shift();
    }
  }

  #apply(entries: readonly Entry[]): void {
    for (const entry of entries) {
      assert(entry.index === this.appliedIndex + 1, "entries are applied in order");
      this.commands.push(textOf(entry.data));
      if (entry.kind === "membership") {
        const change = decodeChange(entry.data);
        const valid = changeMembership(this.membership, change) !== undefined;
        this.membership = this.raft.applyMembership(valid ? change : undefined);
      }
    }
    this.raft.applied(this.appliedIndex);
  }
}

export class Cluster {
  readonly hosts = new Map<NodeId, Host>();
  readonly tuning: Tuning;
  readonly seed: number;
  /** Messages that have left and not arrived. */
  parcels: Parcel[] = [];
  observe: (host: Host, ready: Ready) => void = () => {};

  constructor(
    options: {
      readonly voters?: number;
      readonly learners?: number;
      readonly seed?: number;
      readonly tuning?: Tuning;
    } = {},
  ) {
    this.tuning = options.tuning ?? {};
    this.seed = options.seed ?? 1;
    const ids = Array.from(
      { length: (options.voters ?? 3) + (options.learners ?? 0) },
      (_, position) => String(position + 1),
    );
    const voters = ids.slice(0, options.voters ?? 3);
    const membership = simpleMembership(voters, ids.slice(voters.length));
    for (const id of ids) this.add(id, { mark: { index: 0, term: 0, membership }, commands: [] });
  }

  /** Adds a node; a joining one knows nobody yet. */
  add(id: NodeId, image?: Image): Host {
    const empty = { mark: { index: 0, term: 0, membership: simpleMembership([]) }, commands: [] };
    const host = new Host(this, id, image ?? empty);
    this.hosts.set(id, host);
    return host;
  }

  host(id: NodeId): Host {
    const host = this.hosts.get(id);
    assert(host !== undefined, `no node ${id}`);
    return host;
  }

  post(message: Message): void {
    const isSnapshot = message.type === "snapshot";
    const image = isSnapshot ? this.host(message.from).imageNow() : undefined;
    this.parcels.push({ message, image });
  }

  /** Delivers what has left so far, unless `drop` says otherwise. */
  deliver(drop: (message: Message) => boolean = () => false): void {
    const parcels = this.parcels;
    this.parcels = [];
    for (const parcel of parcels) {
      if (!drop(parcel.message)) this.hosts.get(parcel.message.to)?.receive(parcel);
    }
  }

  /** Processes, flushes and delivers until nothing is left to do. */
  settle(drop?: (message: Message) => boolean): void {
    for (let round = 0; round < 1000; round += 1) {
      let busy = false;
      for (const host of this.hosts.values()) {
        while (host.raft.hasReady()) {
          host.process();
          busy = true;
        }
        if (host.store.pendingWrites > 0) {
          host.flush();
          busy = true;
        }
      }
      if (!busy && this.parcels.length === 0) return;
      this.deliver(drop);
    }
    throw new Error("the cluster does not settle");
  }

  /** Makes this node the leader, by an election of which all are part. */
  elect(id: NodeId): void {
    this.host(id).raft.campaign();
    this.settle();
    assert(this.host(id).raft.status().role === "leader", `${id} leads`);
  }

  propose(id: NodeId, ...commands: string[]): void {
    const refusal = this.host(id).raft.propose(commands.map(command));
    assert(refusal === undefined, `refused: ${refusal}`);
  }

  /** The node that leads the highest term. */
  leader(): Host | undefined {
    const leaders = [...this.hosts.values()].filter((each) => {
      return each.raft.status().role === "leader";
    });
    return leaders.sort((a, b) => b.raft.status().term - a.raft.status().term)[0];
  }
}

export function command(text: string): { kind: "normal"; data: Uint8Array } {
  return { kind: "normal", data: utf8(text) };
}

/** A filter that cuts these nodes off from all others. */
export function isolate(...ids: NodeId[]): (message: Message) => boolean {
  return ({ from, to }) => ids.includes(from) !== ids.includes(to);
}
