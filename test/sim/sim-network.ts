/**
 * The network between members: delays, loses, duplicates and reorders raft's messages, cuts single
 * directions, breaks snapshot streams. Every frame goes through the production codec. Proposals are
 * never duplicated: real links don't.
 */
import type { Bytes } from "../../shared/base/bytes.ts";
import type { PeerAddress, PeerInbox, PeerTransport } from "../../shared/peer/host.ts";
import type { Message, NodeId, SnapshotMark } from "../../shared/raft/types.ts";
import type { PeerCall, PeerReply } from "../../shared/wire/peer-call.ts";
import { PEER_VERSION, decodePeerFrame, encodePeerFrame } from "../../shared/wire/peer-codec.ts";
import type { PeerFrame } from "../../shared/wire/peer-codec.ts";
import type { SimProcess } from "./sim-process.ts";
import type { World } from "./world.ts";

/** How bad the network is; probabilities are per message. */
export interface NetworkQuality {
  readonly loss: number;
  readonly duplicate: number;
  readonly delayMillisecondsMax: number;
  /** Mostly small delays, sometimes up to the most: messages overtake each other. */
  readonly slow: number;
}

export const PERFECT: NetworkQuality = {
  loss: 0,
  duplicate: 0,
  delayMillisecondsMax: 2,
  slow: 0,
};

/** Between two tries to link to the other members. */
const DIAL_MILLISECONDS = 1000;

interface Endpoint {
  readonly process: SimProcess;
  readonly transport: SimTransport;
}

export class SimNetwork {
  readonly world: World;
  quality: NetworkQuality = PERFECT;
  /** Sees each message at its sending. */
  observe: (message: Message) => void = () => {};
  /** That arrived whole and were installed. */
  snapshots = 0;
  readonly #endpoints = new Map<NodeId, Endpoint>();
  /** Directions that carry nothing, as "from>to". */
  readonly #cuts = new Set<string>();
  /** Directions whose messages take so many milliseconds more. */
  readonly #late = new Map<string, number>();

  constructor(world: World) {
    this.world = world;
  }

  /** The transport of a process that has just started as this member. */
  attach(id: NodeId, process: SimProcess): SimTransport {
    const transport = new SimTransport(this, id, process);
    this.#endpoints.set(id, { process, transport });
    return transport;
  }

  endpoint(id: NodeId): Endpoint | undefined {
    const endpoint = this.#endpoints.get(id);
    return endpoint?.process.alive === true ? endpoint : undefined;
  }

  cut(from: NodeId, to: NodeId): void {
    this.#cuts.add(`${from}>${to}`);
  }

  slow(from: NodeId, to: NodeId, milliseconds: number): void {
    this.#late.set(`${from}>${to}`, milliseconds);
  }

  heal(): void {
    this.#cuts.clear();
    this.#late.clear();
  }

  isCut(from: NodeId, to: NodeId): boolean {
    return this.#cuts.has(`${from}>${to}`);
  }

  delay(): number {
    const { slow, delayMillisecondsMax } = this.quality;
    const most = this.world.prng.chance(slow) ? delayMillisecondsMax : 2;
    return this.world.prng.between(50, most * 1000) / 1000;
  }

  /** Carries one input to a member's process, if it arrives. */
  carry(from: NodeId, to: NodeId, deliver: (inbox: PeerInbox) => void): void {
    if (this.isCut(from, to) || this.world.prng.chance(this.quality.loss)) return;
    const late = this.#late.get(`${from}>${to}`) ?? 0;
    this.world.schedule(this.delay() + late, () => {
      const endpoint = this.endpoint(to);
      if (endpoint === undefined || this.isCut(from, to)) return;
      endpoint.process.enter(() => {
        const { transport } = endpoint;
        if (transport.inbox.isRemoved(from)) return this.refuse(from, to);
        transport.heard(from);
        deliver(transport.inbox);
      });
    });
  }

  /** Tells a member whose link is refused that it was removed. */
  refuse(from: NodeId, by: NodeId): void {
    this.world.schedule(this.delay(), () => {
      const endpoint = this.endpoint(from);
      if (endpoint === undefined || this.isCut(by, from)) return;
      endpoint.process.enter(() => endpoint.transport.inbox.removed(by));
    });
  }

  carryMessage(from: NodeId, to: NodeId, message: Message): void {
    this.observe(message);
    const copy = overTheWire({ kind: "messages", messages: [message] }, from, to);
    const deliver = (inbox: PeerInbox): void => inbox.messages(from, copy.messages);
    this.carry(from, to, deliver);
    if (message.type !== "propose" && this.world.prng.chance(this.quality.duplicate)) {
      this.carry(from, to, deliver);
    }
  }
}

function overTheWire<Frame extends PeerFrame>(frame: Frame, from: NodeId, to: NodeId): Frame {
  const decoded = decodePeerFrame(encodePeerFrame(frame), { from, to });
  if (decoded.kind !== frame.kind) throw new Error(`a ${frame.kind} became ${decoded.kind}`);
  return decoded as Frame;
}

class SimTransport implements PeerTransport {
  inbox: PeerInbox = {
    messages: () => {},
    call: () => Promise.reject(new Error("not started")),
    snapshot: () => Promise.reject(new Error("not started")),
    unreachable: () => {},
    isRemoved: () => false,
    removed: () => {},
  };
  readonly #network: SimNetwork;
  readonly #id: NodeId;
  readonly #process: SimProcess;
  readonly #heard = new Map<NodeId, number>();
  #peers = new Set<NodeId>();

  constructor(network: SimNetwork, id: NodeId, process: SimProcess) {
    this.#network = network;
    this.#id = id;
    this.#process = process;
    this.#dial();
  }

  setPeers(peers: readonly PeerAddress[]): void {
    this.#peers = new Set(peers.map(({ id }) => id));
    for (const id of this.#heard.keys()) if (this.inbox.isRemoved(id)) this.#heard.delete(id);
  }

  /** As links do that are dialled again and again: a refusal is heard without a message. */
  #dial(): void {
    this.#process.after(DIAL_MILLISECONDS, () => {
      for (const to of this.#peers) this.#network.carry(this.#id, to, () => {});
      this.#dial();
    });
  }

  heard(from: NodeId): void {
    this.#heard.set(from, this.#process.now());
  }

  send(to: NodeId, messages: readonly Message[]): void {
    // One that isn't known yet is answered on the link that it dialled.
    if (!this.#process.alive || !(this.#peers.has(to) || this.#heard.has(to))) return;
    if (this.#network.endpoint(to) === undefined) {
      this.#process.after(1, () => this.inbox.unreachable(to, messages));
      return;
    }
    for (const message of messages) this.#network.carryMessage(this.#id, to, message);
  }

  call(to: NodeId, call: PeerCall, timeoutMilliseconds: number): Promise<PeerReply> {
    const { prng } = this.#network.world;
    const id = prng.below(1000);
    return new Promise((resolve, reject) => {
      this.#process.after(timeoutMilliseconds, () => reject(new Error("no answer in time")));
      const asked = overTheWire({ kind: "call", id, call }, this.#id, to);
      this.#network.carry(this.#id, to, (inbox) => {
        inbox.call(this.#id, asked.call).then(
          (reply) => {
            const answered = overTheWire({ kind: "reply", id, reply }, to, this.#id);
            this.#network.carry(to, this.#id, () => resolve(answered.reply));
          },
          () => {},
        );
      });
    });
  }

  async sendSnapshot(to: NodeId, mark: SnapshotMark, chunks: AsyncIterable<Bytes>): Promise<void> {
    const network = this.#network;
    const target = network.endpoint(to);
    if (target === undefined) throw new Error("not connected");
    const stream = new SimStream();
    const broken = (): boolean =>
      !target.process.alive || network.isCut(this.#id, to) || network.isCut(to, this.#id);
    const outcome = new Promise<void>((resolve, reject) => {
      target.process.after(network.delay(), () => {
        const copy = overTheWire({ kind: "snapshot", mark }, this.#id, to);
        target.transport.inbox.snapshot(this.#id, copy.mark, stream).then(resolve, reject);
        // A sender that dies, or a cut, ends the connection at this side too.
        const listen = (): void => {
          if (!this.#process.alive || broken()) stream.break();
          else target.process.after(100, listen);
        };
        listen();
      });
      // A receiver that dies never answers.
      const watch = (): void => {
        if (broken()) {
          stream.break();
          reject(new Error("the connection ended"));
        } else this.#process.after(100, watch);
      };
      watch();
    });
    outcome.catch(() => {});
    for await (const bytes of chunks) {
      await this.#process.sleep(network.delay());
      if (broken()) {
        target.process.enter(() => stream.break());
        throw new Error("the connection broke");
      }
      const chunk = overTheWire({ kind: "chunk", bytes }, this.#id, to);
      target.process.enter(() => stream.push(Uint8Array.from(chunk.bytes)));
    }
    target.process.enter(() => stream.end());
    await outcome;
    network.snapshots += 1;
    network.world.note(`${this.#id}>${to} snapshot ${mark.index} installed`);
    await this.#process.sleep(network.delay());
  }

  idleMilliseconds(id: NodeId): number | undefined {
    const heard = this.#heard.get(id);
    if (heard === undefined || this.#network.endpoint(id) === undefined) return undefined;
    const idle = this.#process.now() - heard;
    return idle > 5000 ? undefined : idle;
  }

  versionOf(id: NodeId): number | undefined {
    return this.idleMilliseconds(id) === undefined ? undefined : PEER_VERSION;
  }
}

/** Chunks on their way to the receiver. */
class SimStream implements AsyncIterable<Bytes> {
  readonly #chunks: Bytes[] = [];
  #state: "open" | "ended" | "broken" = "open";
  #wake: () => void = () => {};

  push(bytes: Bytes): void {
    this.#chunks.push(bytes);
    this.#wake();
  }
  end(): void {
    this.#state = "ended";
    this.#wake();
  }
  break(): void {
    if (this.#state === "open") this.#state = "broken";
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Bytes> {
    for (;;) {
      const bytes = this.#chunks.shift();
      if (bytes !== undefined) yield bytes;
      else if (this.#state === "broken") throw new Error("the stream broke");
      else if (this.#state === "ended") return;
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
