/**
 * Runs the commands of a transcript (test/transcripts/raft) against a cluster, one node and one
 * step at a time. Words of a command are positional, `name=value`, or flags.
 *
 *   add-nodes 3 [learners=1] [pre-vote=no] [check-quorum=no] [election-ticks=10] [appends=2] ...
 *   add-node 4                        a node that knows nobody yet
 *   add-nodes 3 lease-reads           every node has a clock: a tick takes 100 ms of it
 *   pass 1 500                        time on this node's clock, without ticks
 *   campaign 1 | tick 1 [5] | transfer 1 to=2 | read 1 context=7
 *   propose 1 a b [size=100] | propose-membership 1 addVoter:4 remove:2 [explicit]
 *   process-ready 1                   takes one batch, writes it unflushed, sends, applies
 *   persist 1 [2]                     flushes its oldest writes, or all
 *   deliver-msgs [to=2] [from=1] [type=append] [drop=2,3]
 *   stabilize [1 2] [drop=3]          process-ready, persist and deliver-msgs until all is quiet
 *   step append from=1 to=2 term=1 after=0/0 entries=1/1:a,1/2:b commit=0
 *   status [1] | log 1 | crash 1 | compact 1 5
 *   report-unreachable 1 2 | report-snapshot 1 2 failed
 *
 * `quiet` as the last word leaves the output out.
 */
import { assert } from "../../../shared/base/assert.ts";
import { EMPTY, utf8 } from "../../../shared/base/bytes.ts";
import type { Entry, Message, NodeId } from "../../../shared/raft/types.ts";
import { Cluster, command, encodeChange, type Host, type Tuning } from "./cluster.ts";
import {
  formatEntries,
  formatMembership,
  formatMessage,
  formatReady,
  formatStatus,
} from "./transcript-format.ts";

const STABILIZE_ROUNDS_MAX = 100;

/** A command line taken apart. */
class Command {
  readonly name: string;
  readonly words: readonly string[];
  readonly #options = new Map<string, string>();

  constructor(line: string) {
    const [name = "", ...words] = line.split(/\s+/).filter(Boolean);
    this.name = name;
    this.words = words.filter((word) => !word.includes("="));
    for (const word of words) {
      const at = word.indexOf("=");
      if (at > 0) this.#options.set(word.slice(0, at), word.slice(at + 1));
    }
  }

  word(position: number): string {
    const word = this.words[position];
    assert(word !== undefined, `${this.name}: word ${position + 1} is missing`);
    return word;
  }

  option(name: string): string | undefined {
    return this.#options.get(name);
  }

  number(name: string, otherwise: number): number {
    return Number(this.#options.get(name) ?? otherwise);
  }

  list(name: string): readonly string[] {
    return this.#options.get(name)?.split(",") ?? [];
  }
}

export class TranscriptRunner {
  #cluster = new Cluster({ voters: 0 });
  #output: string[] = [];

  /** Runs one command; the answer is its output without a line break at the end. */
  run(line: string): string {
    this.#output = [];
    const quiet = line.endsWith(" quiet");
    this.#execute(new Command(quiet ? line.slice(0, -" quiet".length) : line));
    if (quiet || this.#output.length === 0) return "ok";
    return this.#output.join("\n");
  }

  #print(...lines: string[]): void {
    this.#output.push(...lines);
  }

  #execute(command: Command): void {
    switch (command.name) {
      case "add-nodes":
        this.#cluster = makeCluster(command);
        return;
      case "add-node":
        this.#cluster.add(command.word(0));
        return;
      case "stabilize":
        this.#stabilize(command);
        return;
      case "deliver-msgs":
        this.#deliver(command);
        return;
      case "step":
        this.#cluster.hosts.get(command.option("to") ?? "")?.receive({
          message: parseMessage(command),
          image: undefined,
        });
        return;
      case "status": {
        const only = command.words[0];
        for (const { id, raft } of this.#cluster.hosts.values()) {
          if (only === undefined || only === id) this.#print(...formatStatus(raft.status()));
        }
        return;
      }
      default:
        this.#executeOn(this.#cluster.host(command.word(0)), command);
    }
  }

  #executeOn(host: Host, words: Command): void {
    const { raft } = host;
    switch (words.name) {
      case "campaign":
        raft.campaign();
        return;
      case "tick":
        for (let count = Number(words.words[1] ?? 1); count > 0; count -= 1) host.tick();
        return;
      case "pass":
        host.pass(Number(words.word(1)));
        return;
      case "propose": {
        const size = words.number("size", 0);
        const texts = size > 0 ? ["x".repeat(size)] : words.words.slice(1);
        this.#answer(raft.propose(texts.map(command)));
        return;
      }
      case "propose-membership": {
        const text = words.words.slice(1).join(" ");
        const data = text === "leave" ? EMPTY : encodeChange(text);
        this.#answer(raft.propose([{ kind: "membership", data }]));
        return;
      }
      case "read":
        this.#answer(raft.readIndex(words.number("context", 0), host.now));
        return;
      case "transfer":
        this.#answer(raft.transferLeader(words.option("to") ?? ""));
        return;
      case "process-ready":
        if (raft.hasReady()) this.#print(...formatReady(host.id, host.process()));
        else this.#print(`${host.id}: nothing is ready`);
        return;
      case "persist":
        host.flush(words.words[1] === undefined ? undefined : Number(words.words[1]));
        return;
      default:
        this.#executeRare(host, words);
    }
  }

  #executeRare(host: Host, words: Command): void {
    switch (words.name) {
      case "log": {
        const { store } = host;
        const base = store.firstIndex - 1;
        const entries = store.slice(store.firstIndex, store.lastIndex + 1, Infinity);
        if (base > 0) this.#print(`compacted up to ${store.termOf(base)}/${base}`);
        this.#print(entries.length === 0 ? "no entries" : formatEntries(entries));
        return;
      }
      case "membership":
        this.#print(formatMembership(host.membership));
        return;
      case "crash":
        host.restart();
        return;
      case "compact":
        host.compact(Number(words.word(1)));
        return;
      case "report-unreachable":
        host.raft.reportUnreachable(words.word(1));
        return;
      case "report-snapshot":
        host.raft.reportSnapshot(
          words.word(1),
          words.word(2) === "failed" ? "failed" : "delivered",
        );
        return;
      default:
        throw new Error(`unknown command ${words.name}`);
    }
  }

  #answer(refusal: string | undefined): void {
    if (refusal !== undefined) this.#print(`refused: ${refusal}`);
  }

  /** Delivers what matches, drops what matches and goes to or comes from a dropped node. */
  #deliver(command: Command): void {
    const to = command.option("to");
    const from = command.option("from");
    const type = command.option("type");
    const drop = command.list("drop");
    const parcels = this.#cluster.parcels;
    this.#cluster.parcels = [];
    for (const parcel of parcels) {
      const { message } = parcel;
      const wanted = (to ?? message.to) === message.to && (from ?? message.from) === message.from;
      if (!wanted || (type ?? message.type) !== message.type) {
        this.#cluster.parcels.push(parcel);
      } else if (drop.includes(message.to) || drop.includes(message.from)) {
        this.#print(`drops ${formatMessage(message)}`);
      } else {
        this.#print(`delivers ${formatMessage(message)}`);
        this.#cluster.hosts.get(message.to)?.receive(parcel);
      }
    }
  }

  #stabilize(command: Command): void {
    const only = command.words;
    const drop = command.list("drop");
    const isPart = (id: NodeId): boolean => only.length === 0 || only.includes(id);
    for (let round = 0; round < STABILIZE_ROUNDS_MAX; round += 1) {
      let busy = false;
      for (const host of this.#cluster.hosts.values()) {
        if (!isPart(host.id)) continue;
        while (host.raft.hasReady()) {
          this.#print(...formatReady(host.id, host.process()));
          busy = true;
        }
        if (host.store.pendingWrites > 0) host.flush();
        busy ||= host.raft.hasReady();
      }
      busy = this.#deliverAmong(isPart, drop) || busy;
      if (!busy) return;
    }
    throw new Error("the cluster does not come to rest");
  }

  /** As part of `stabilize`: deliveries go without saying, losses don't. */
  #deliverAmong(isPart: (id: NodeId) => boolean, drop: readonly NodeId[]): boolean {
    const parcels = this.#cluster.parcels;
    this.#cluster.parcels = [];
    let busy = false;
    for (const parcel of parcels) {
      const { message } = parcel;
      if (drop.includes(message.to) || drop.includes(message.from)) {
        this.#print(`drops ${formatMessage(message)}`);
      } else if (isPart(message.to)) {
        this.#cluster.hosts.get(message.to)?.receive(parcel);
        busy = true;
      } else {
        this.#cluster.parcels.push(parcel);
      }
    }
    return busy;
  }
}

function makeCluster(command: Command): Cluster {
  const tuning: { -readonly [Name in keyof Tuning]: Tuning[Name] } = {
    preVote: command.option("pre-vote") !== "no",
    checkQuorum: command.option("check-quorum") !== "no",
  };
  const numbers = {
    "election-ticks": "electionTicks",
    "append-bytes": "appendBytesMax",
    appends: "appendsInFlightMax",
    "in-flight-bytes": "appendBytesInFlightMax",
    "uncommitted-bytes": "uncommittedBytesMax",
    "committed-bytes": "committedBytesMax",
  } as const;
  if (command.words.includes("lease-reads")) {
    tuning.leaderLease = { tickMilliseconds: 100, driftMax: 0.1 };
  }
  for (const [option, name] of Object.entries(numbers)) {
    if (command.option(option) !== undefined) tuning[name] = command.number(option, 0);
  }
  const learners = command.number("learners", 0);
  return new Cluster({ voters: Number(command.word(0)), learners, tuning });
}

function parseMessage(command: Command): Message {
  const envelope = {
    from: command.option("from") ?? "",
    to: command.option("to") ?? "",
    term: command.number("term", 0),
  };
  const [term = 0, index = 0] = (command.option("after") ?? "0/0").split("/").map(Number);
  switch (command.word(0)) {
    case "append":
      return {
        ...envelope,
        type: "append",
        previousTerm: term,
        previousIndex: index,
        entries: command.list("entries").map(parseEntry),
        commit: command.number("commit", 0),
      };
    case "appendReply": {
      const reply = { reject: false, hintIndex: 0, hintTerm: 0 };
      return { ...envelope, ...reply, type: "appendReply", index: command.number("index", 0) };
    }
    case "heartbeatReply":
      return { ...envelope, type: "heartbeatReply", round: command.number("round", 0) };
    case "vote":
    case "preVote": {
      const type = command.word(0) === "vote" ? "vote" : "preVote";
      const transfer = command.words.includes("transfer");
      return { ...envelope, type, lastTerm: term, lastIndex: index, transfer };
    }
    default:
      throw new Error(`step can't make a message of type ${command.word(0)}`);
  }
}

function parseEntry(text: string): Entry {
  const match = /^(\d+)\/(\d+)(?::(.*))?$/.exec(text);
  assert(match !== null, `entry ${text}`);
  const [, term, index, data] = match;
  return { term: Number(term), index: Number(index), kind: "normal", data: utf8(data ?? "") };
}
