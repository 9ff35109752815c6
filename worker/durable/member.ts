/**
 * A member in a Durable Object of a cluster of Node peers, free of the platform's classes. Learner
 * or voter: whatever the cluster has made it.
 *
 * It learns who it is from those who dial it. After `member add` the others dial its peer URL with
 * a hello that names the cluster and its id; it asks on that link who the members are, and becomes
 * the one with that id if that one has its URL and has never run. One that has run before, here or
 * elsewhere, is refused: it may have voted, and acknowledged what is gone with its data; it must be
 * removed and added anew. A removed one stops, and stays empty-handed until it is added again.
 */
import { LIMITS } from "../../shared/base/limits.ts";
import type { SocketLike } from "../../shared/client/platform.ts";
import type { Host } from "../../shared/peer/host.ts";
import { CLOSE } from "../../shared/peer/links/frame-link.ts";
import { checkHello } from "../../shared/peer/links/hello-check.ts";
import { WaitingCalls, type Schedule } from "../../shared/peer/links/waiting-calls.ts";
import { MemberRemovedError } from "../../shared/peer/membership-keeper.ts";
import { startPeer } from "../../shared/peer/start-peer.ts";
import type { ToldMember } from "../../shared/wire/peer-call.ts";
import { PEER_VERSION, type PeerHello } from "../../shared/wire/peer-codec.ts";
import { sameSecret } from "../access.ts";
import { createDurableHost, steadyNow } from "./durable-host.ts";
import { Fence } from "./fence.ts";
import type { HostedMember } from "./hosted-members.ts";
import { IdentityStore, type MemberIdentity } from "./member-identity.ts";
import { MemberTransport } from "./member-transport.ts";
import { DURABLE_CONFIG, type ServedPeer } from "./peer-node.ts";
import { SocketLink } from "./socket-link.ts";
import type { Sql } from "./sql.ts";

export interface DurableMemberOptions {
  readonly sql: Sql;
  readonly member: HostedMember;
  /** Peer URLs of the Worker's other members: of other clusters, as these can't dial each other. */
  readonly otherUrls: readonly string[];
  /** What members show each other; empty: none. */
  readonly secret: string;
  readonly tickMilliseconds: number;
  readonly report: Host["report"];
  /** The object must start anew. */
  readonly onFatal: (error: Error) => void;
}

/** How long the first one to dial has for telling who the members are. */
const TELL_MILLISECONDS = 5000;

const AGAIN = "remove it, and add it anew";

const schedule: Schedule = (milliseconds, callback) => {
  const timer = setTimeout(callback, milliseconds);
  return () => clearTimeout(timer);
};

interface Running extends ServedPeer {
  readonly transport: MemberTransport;
}

export class DurableMember {
  readonly #options: DurableMemberOptions;
  readonly #fence: Fence;
  readonly #identity: IdentityStore;
  readonly #now = steadyNow(() => Date.now());
  #running: Running | undefined;
  /** Why it doesn't run. */
  #reason: string;
  #handshakes = 0;
  #lastRefusal = "";

  constructor(options: DurableMemberOptions) {
    this.#options = options;
    this.#fence = new Fence(options.sql, options.onFatal);
    this.#identity = new IdentityStore(options.sql);
    const { name } = options.member;
    this.#reason = this.#identity.hasFormer
      ? `${name} was removed from its cluster, or has lost its place: member add makes it a new member`
      : `${name} belongs to no cluster yet: member add makes it a member`;
    const identity = this.#identity.current;
    if (identity !== undefined) this.#start(identity, []);
    else this.#identity.wipe();
  }

  /** Undefined: it doesn't run. */
  get served(): ServedPeer | undefined {
    return this.#running;
  }

  /** Why it doesn't. */
  get reason(): string {
    return this.#reason;
  }

  /** For its operator. Ids as etcdctl prints them. */
  describe(): Readonly<Record<string, unknown>> {
    const { name, url } = this.#options.member;
    const running = this.#running;
    if (running === undefined) return { name, url, running: false, reason: this.#reason };
    const { role, leader, applied } = running.peer.raftStatus();
    return {
      name,
      url,
      running: true,
      cluster: running.clusterId.toString(16),
      member: running.memberId.toString(16),
      learner: running.peer.services.cluster.isLearner(),
      role,
      leader: leader === undefined ? undefined : BigInt(leader).toString(16),
      applied,
      links: running.transport.linkCount,
    };
  }

  /** Takes a socket on which another member has come; it is open. */
  accept(socket: SocketLike): void {
    const link = new SocketLink(socket, { beforeSend: () => this.#fence.pass(), now: this.#now });
    if (this.#handshakes >= LIMITS.peerHandshakesMax) {
      return link.close(CLOSE.done, "too many connections that have not said who they are");
    }
    this.#handshakes += 1;
    const cancel = schedule(LIMITS.peerIdleMillisecondsMax, () => {
      link.close(CLOSE.protocol, "no hello in time");
    });
    const greeted = (): void => {
      cancel();
      this.#handshakes -= 1;
    };
    link.onClose = greeted;
    link.onFrame = (frame) => {
      link.onClose = () => {};
      greeted();
      if (frame.kind === "hello") this.#greet(link, frame.hello);
      else link.close(CLOSE.protocol, "no hello");
    };
  }

  #greet(link: SocketLink, hello: PeerHello): void {
    const { secret } = this.#options;
    const own = this.#running;
    const isAnother = own !== undefined && this.#mayBeAnother(own, hello);
    const identity = own === undefined || isAnother ? addressee(hello) : own;
    const refusal = checkHello(
      hello,
      { ...identity, incarnation: 0, secret },
      { removed: own?.transport.inbox.isRemoved(String(hello.from)) ?? false, sameSecret },
    );
    if (refusal !== undefined) return this.#refuse(link, hello, refusal.code, refusal.reason);
    if (this.#identity.isFormer(hello.to)) {
      const reason = "the addressed member was removed here, or has lost its data";
      return this.#refuse(link, hello, CLOSE.wrongMember, reason);
    }
    const isKnown = own !== undefined && !isAnother;
    if (!isKnown && hello.purpose !== "messages") {
      return link.close(CLOSE.protocol, "nobody has told yet who the members are");
    }
    link.identify({ from: String(hello.from), to: String(hello.to) });
    link.send({ kind: "welcome", version: Math.min(PEER_VERSION, hello.version) });
    if (isKnown) own.transport.attach(link, hello);
    else this.#adopt(link, hello).catch((error: Error) => this.#options.onFatal(error));
  }

  /**
   * It was removed while nobody could tell it, and added again: the others dial another id, and
   * none of them the one that it has.
   */
  #mayBeAnother(own: Running, hello: PeerHello): boolean {
    return (
      hello.cluster === own.clusterId && hello.to !== own.memberId && own.transport.linkCount === 0
    );
  }

  /** Becomes the member that the hello addresses, if the one who dials tells nothing against it. */
  async #adopt(link: SocketLink, hello: PeerHello): Promise<void> {
    const calls = new WaitingCalls(schedule);
    link.onClose = () => calls.rejectAll("the connection was lost");
    // Raft's messages wait for its answer: raft repeats what still matters.
    link.onFrame = (frame) => {
      if (frame.kind === "reply") calls.receive(frame);
    };
    let told: readonly ToldMember[];
    try {
      const reply = await calls.call(link, { kind: "members" }, TELL_MILLISECONDS);
      if (reply.kind !== "members") throw new Error("the reply names no members");
      told = reply.members;
    } catch (error) {
      const reason = `nobody tells the members: ${String(error)}`;
      return this.#refuse(link, hello, CLOSE.protocol, reason);
    }
    const identity = addressee(hello);
    const own = this.#running;
    if (own?.memberId === identity.memberId && own.clusterId === identity.clusterId) {
      // Another one was faster in telling.
      return own.transport.attach(link, hello);
    }
    const refusal =
      own !== undefined && !this.#mayBeAnother(own, hello)
        ? "addressed to another member"
        : this.#refusalOf(identity, told);
    if (refusal !== undefined) return this.#refuse(link, hello, CLOSE.wrongMember, refusal);
    if (own !== undefined) {
      this.#ended(new MemberRemovedError());
      return link.close(CLOSE.done, "the member that was here has to stop first");
    }
    if (this.#identity.hasData) {
      // Whoever dials again finds an object that has none.
      return this.#options.onFatal(new Error("starts anew without a former member's data"));
    }
    this.#identity.adopt(identity);
    this.#options.report("info", "a member of the cluster from now on", { ...identity });
    this.#start(identity, told)?.transport.attach(link, hello);
  }

  #refusalOf({ memberId }: MemberIdentity, told: readonly ToldMember[]): string | undefined {
    const { member, otherUrls } = this.#options;
    const { url } = member;
    const row = told.find(({ id }) => id === memberId);
    if (row === undefined) return "the cluster has no such member";
    const isHere = (each: string): boolean => originOf(each) === originOf(url);
    if (!row.peerUrls.some(isHere)) return `its peer URL is not ${url}`;
    if (row.name !== "") return `the member has run before, and its data are not here: ${AGAIN}`;
    const others = new Set(otherUrls.map(originOf));
    if (told.some(({ peerUrls }) => peerUrls.some((each) => others.has(originOf(each))))) {
      return "another member of the cluster is in a Durable Object, too: they can't dial each other";
    }
    const former = this.#running?.memberId;
    const isStill = former !== undefined && told.some(({ id }) => id === former);
    return isStill ? "the member that is here was not removed" : undefined;
  }

  #start(identity: MemberIdentity, told: readonly ToldMember[]): Running | undefined {
    const { member, sql, report, tickMilliseconds } = this.#options;
    const transport = new MemberTransport({ now: this.#now, schedule });
    const host = createDurableHost({
      sql,
      transport,
      now: this.#now,
      report,
      onFatal: (error) => this.#ended(error),
    });
    try {
      const peer = startPeer(host, {
        ...identity,
        name: member.name,
        // etcd's clients would speak gRPC to it, which a Worker can't.
        clientUrls: [],
        bootstrapMembers: [],
        joinThrough: told,
        tickMilliseconds,
        ...DURABLE_CONFIG,
      });
      this.#running = { ...identity, peer, fence: this.#fence, transport };
    } catch (error) {
      this.#ended(error as Error);
    }
    return this.#running;
  }

  #ended(error: Error): void {
    if (!(error instanceof MemberRemovedError)) return this.#options.onFatal(error);
    this.#identity.retire();
    this.#reason = `${this.#options.member.name} was removed from its cluster: ${error.message}`;
    this.#options.report("warn", error.message);
    if (this.#running !== undefined) this.#stop(this.#running, error.message);
  }

  #stop(running: Running, reason: string): void {
    this.#running = undefined;
    running.transport.close(reason);
    void running.peer.stop();
  }

  #refuse(link: SocketLink, hello: PeerHello, code: number, reason: string): void {
    const { cluster, from, to } = hello;
    // Whoever is refused comes again several times a second.
    if (reason !== this.#lastRefusal) {
      this.#options.report("warn", `refused a peer: ${reason}`, { cluster, from, to });
    }
    this.#lastRefusal = reason;
    link.close(code, reason);
  }
}

function originOf(url: string): string {
  return URL.canParse(url) ? new URL(url).origin : url;
}

function addressee({ cluster, to }: PeerHello): MemberIdentity {
  return { clusterId: cluster, memberId: to };
}
