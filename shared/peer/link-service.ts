/**
 * The peer's side of a link, free of any transport: batches of frames in, batches out. A host
 * gives it a port (a WebSocket, or one POST) and the peer's services.
 *
 * Promises: a session begins with a valid hello or ends; every call is answered once, unless the
 * link closes first; who asks for a linearizable read and then for progress hears the read first,
 * and progress of that state or a later one; calls and watch streams are bounded; malformed input
 * ends the session with `bye`, never the process. When the link closes, its calls are cancelled and its watch streams
 * closed. Not here: the reading of sockets, TLS, who may connect from where.
 */
import { assert } from "../base/assert.ts";
import type { Bytes } from "../base/bytes.ts";
import { LIMITS } from "../base/limits.ts";
import { RpcError, rpcError } from "../api/errors.ts";
import { WireError } from "../wire/cbor.ts";
import {
  decodeCallBatch,
  encodeEvents,
  encodeReplyFrame,
  encodeWatchResponse,
  joinFrames,
} from "../wire/link-codec.ts";
import { LINK_VERSION } from "../wire/link.ts";
import type { WriteIdentity } from "../wire/command.ts";
import type { LinkCallFrame, LinkReplyFrame } from "../wire/link.ts";
import { linkFailure, performLinkCall } from "./link-calls.ts";
import { learnerRefusal } from "./learner-rules.ts";
import { isLinkWrite } from "../wire/link-writes.ts";
import type { CallContext, Services, WatchResponse, WatchStream } from "./services.ts";

/** WebSocket close codes (RFC 6455 section 7.4) by what happened. */
export const LINK_CLOSE = { protocolError: 1002, refused: 1008, tooBig: 1009, busy: 1013 } as const;

export interface LinkPort {
  /** Takes one batch. False: it reads slowly; watch streams hold back until `LinkSession.drained`. */
  send(batch: Bytes): boolean;
  /** So many bytes wait for the next batch. */
  queued?(bytes: number): void;
  /** True: no events are to be queued, until `LinkSession.drained`. */
  isCrowded?(): boolean;
  close(code: number, reason: string): void;
  /** Runs the callback once the input that has arrived by now was handled: where batches close. */
  defer(callback: () => void): void;
}

export interface LinkOptions {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  /** False over POST: watch frames are refused. */
  readonly push: boolean;
  /** Whether the hello's token opens this peer. */
  accepts(token: string): boolean;
}

export interface LinkSession {
  /** One batch as it came. */
  receive(batch: Bytes): void;
  /** The port takes more again. */
  drained(): void;
  /** The link is gone; nothing is sent any more. */
  closed(): void;
  /** Calls that are not answered yet. */
  readonly callsUnderWay: number;
  /** False once it has ended, by either side. */
  readonly open: boolean;
  /** True from a valid hello on. A host cuts links that never say it. */
  readonly greeted: boolean;
}

export function serveLink(services: Services, port: LinkPort, options: LinkOptions): LinkSession {
  return new Session(services, port, options);
}

/** A call under way; the services see it as their context. */
class Call implements CallContext {
  readonly timeoutMilliseconds: number | undefined;
  readonly requireLeader: boolean;
  readonly identity: WriteIdentity | undefined;
  #onCancel: (() => void)[] = [];

  constructor(
    timeoutMilliseconds: number | undefined,
    requireLeader: boolean,
    identity?: WriteIdentity,
  ) {
    this.timeoutMilliseconds = timeoutMilliseconds;
    this.requireLeader = requireLeader;
    this.identity = identity;
  }

  onCancel(callback: () => void): void {
    this.#onCancel.push(callback);
  }

  cancel(): void {
    const callbacks = this.#onCancel;
    this.#onCancel = [];
    for (const callback of callbacks) callback();
  }
}

interface Stream {
  readonly watch: WatchStream;
  readonly call: Call;
}

class Session implements LinkSession {
  readonly #services: Services;
  readonly #port: LinkPort;
  readonly #options: LinkOptions;
  readonly #calls = new Map<number, Call>();
  readonly #streams = new Map<number, Stream>();
  /** The linearizable read that came last, until it is answered. Never rejects. */
  #reading: Promise<void> | undefined;
  #outbox: Bytes[] = [];
  #outboxBytes = 0;
  #flushing = false;
  #greeted = false;
  #open = true;
  /** The port takes no more just now. */
  #full = false;

  constructor(services: Services, port: LinkPort, options: LinkOptions) {
    this.#services = services;
    this.#port = port;
    this.#options = options;
  }

  get callsUnderWay(): number {
    return this.#calls.size;
  }

  get open(): boolean {
    return this.#open;
  }

  get greeted(): boolean {
    return this.#greeted;
  }

  receive(batch: Bytes): void {
    if (!this.#open) return;
    try {
      if (batch.length > LIMITS.frameBytesMax) {
        throw new WireError(`a batch holds at most ${LIMITS.frameBytesMax} bytes`);
      }
      for (const frame of decodeCallBatch(batch)) {
        if (this.#open) this.#handle(frame);
      }
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#bye(LINK_CLOSE.protocolError, new RpcError("invalidArgument", error.message));
    }
  }

  drained(): void {
    this.#full = false;
    for (const { watch } of this.#streams.values()) {
      if (this.#full) return;
      watch.resume();
    }
  }

  closed(): void {
    this.#open = false;
    this.#outbox = [];
    for (const { watch, call } of this.#streams.values()) {
      watch.close();
      call.cancel();
    }
    this.#streams.clear();
    for (const call of this.#calls.values()) call.cancel();
    this.#calls.clear();
  }

  #handle(frame: LinkCallFrame): void {
    if (!this.#greeted) {
      this.#greet(frame);
      return;
    }
    switch (frame.kind) {
      case "hello":
        throw new WireError("a link says hello once");
      case "call":
        this.#call(frame);
        return;
      case "cancel":
        this.#calls.get(frame.id)?.cancel();
        return;
      default:
        this.#handleWatch(frame);
    }
  }

  #greet(frame: LinkCallFrame): void {
    if (frame.kind !== "hello") throw new WireError("a link begins with hello");
    if (frame.version !== LINK_VERSION) {
      const text = `link version ${frame.version} is not spoken here: use version ${LINK_VERSION}`;
      this.#bye(LINK_CLOSE.refused, new RpcError("failedPrecondition", text));
      return;
    }
    if (!this.#options.accepts(frame.token)) {
      this.#bye(LINK_CLOSE.refused, rpcError("invalidAuthToken"));
      return;
    }
    this.#greeted = true;
    const { clusterId, memberId } = this.#options;
    const { appliedIndex } = this.#services;
    this.#reply({ kind: "welcome", version: LINK_VERSION, clusterId, memberId, appliedIndex });
  }

  #call(frame: LinkCallFrame & { kind: "call" }): void {
    const { id, request, timeoutMilliseconds, requireLeader } = frame;
    if (this.#calls.has(id)) throw new WireError(`call ${id} is under way already`);
    if (this.#calls.size >= LIMITS.linkCallsMax) {
      const text = `at most ${LIMITS.linkCallsMax} calls may be under way on a link`;
      const failure = linkFailure(new RpcError("resourceExhausted", text), false);
      this.#reply({ kind: "error", id, failure });
      return;
    }
    const timeout = timeoutMilliseconds === 0 ? undefined : timeoutMilliseconds;
    const call = new Call(timeout, requireLeader, frame.identity);
    this.#calls.set(id, call);
    const write = isLinkWrite(request);
    const failed = (error: unknown): void => {
      if (!this.#settle(id, call)) return;
      this.#reply({ kind: "error", id, failure: linkFailure(error, write) });
    };
    let answer: ReturnType<typeof performLinkCall>;
    try {
      answer = performLinkCall(this.#services, request, call);
    } catch (error) {
      failed(error);
      return;
    }
    const answered = answer
      .then((answer) => {
        if (this.#settle(id, call)) this.#answer({ kind: "result", id, answer }, write);
      })
      .catch(failed);
    if (request.method === "range" && !request.serializable) this.#reads(answered);
  }

  #reads(answered: Promise<void>): void {
    this.#reading = answered;
    void answered.then(() => {
      if (this.#reading === answered) this.#reading = undefined;
    });
  }

  /** True when the call still waits for its answer here. */
  #settle(id: number, call: Call): boolean {
    return this.#calls.get(id) === call && this.#calls.delete(id);
  }

  #answer(frame: LinkReplyFrame & { kind: "result" }, write: boolean): void {
    const bytes = encodeReplyFrame(frame);
    if (bytes.length <= LIMITS.linkReplyBytesMax) {
      this.#queue(bytes);
      return;
    }
    const text = `the answer has ${bytes.length} bytes, a link carries ${LIMITS.linkReplyBytesMax}`;
    const outcome = write ? "unknown" : "none";
    const error = new RpcError("outOfRange", `${text}: ask for fewer keys (limit)`, { outcome });
    this.#reply({ kind: "error", id: frame.id, failure: linkFailure(error, write) });
  }

  #handleWatch(frame: Extract<LinkCallFrame, { kind: `watch${string}` }>): void {
    if (!this.#options.push) {
      throw new WireError("watching needs push: open the link as a WebSocket");
    }
    if (frame.kind === "watchOpen") {
      this.#openStream(frame.stream, frame.requireLeader);
      return;
    }
    // A stream may have ended while its caller's frame was under way: nothing is left to do for it.
    const stream = this.#streams.get(frame.stream);
    if (stream === undefined) return;
    switch (frame.kind) {
      case "watchCreate":
        stream.watch.create(frame.create);
        return;
      case "watchCancel":
        stream.watch.cancel(frame.watchId);
        return;
      case "watchProgress":
        this.#progress(frame.stream);
        return;
      case "watchClose":
        this.#streams.delete(frame.stream);
        stream.watch.close();
        stream.call.cancel();
    }
  }

  /** Behind the read, so that one round trip tells both how far the cluster is and that this is all. */
  #progress(stream: number): void {
    const tell = (): void => this.#streams.get(stream)?.watch.progress();
    if (this.#reading === undefined) tell();
    else void this.#reading.then(tell);
  }

  #openStream(number: number, requireLeader: boolean): void {
    if (this.#streams.has(number)) throw new WireError(`watch stream ${number} is open already`);
    const refused = (error: unknown): void => {
      this.#reply({ kind: "watchEnd", stream: number, failure: linkFailure(error, false) });
    };
    if (this.#streams.size >= LIMITS.linkStreamsMax) {
      const text = `at most ${LIMITS.linkStreamsMax} watch streams may be open on a link`;
      return refused(new RpcError("resourceExhausted", text));
    }
    const refusal = learnerRefusal(this.#services, false);
    if (refusal !== undefined) return refused(refusal);
    const call = new Call(undefined, requireLeader);
    let over = false;
    let watch: WatchStream;
    try {
      watch = this.#services.watch.open(
        {
          send: (response) => {
            this.#queue(watchFrame(number, response));
            return !this.#full;
          },
          isCrowded: () => this.#port.isCrowded?.() === true,
          end: (error) => {
            over = true;
            this.#streams.delete(number);
            refused(error);
          },
        },
        call,
      );
    } catch (error) {
      return refused(error);
    }
    if (!over) this.#streams.set(number, { watch, call });
  }

  #reply(frame: LinkReplyFrame): void {
    this.#queue(encodeReplyFrame(frame));
  }

  #queue(bytes: Bytes): void {
    if (!this.#open) return;
    this.#outbox.push(bytes);
    this.#outboxBytes += bytes.length;
    this.#port.queued?.(bytes.length);
    if (this.#outboxBytes >= LIMITS.linkBatchBytes) {
      this.#flush();
    } else if (!this.#flushing) {
      this.#flushing = true;
      this.#port.defer(() => {
        this.#flushing = false;
        this.#flush();
      });
    }
  }

  #flush(): void {
    if (!this.#open || this.#outbox.length === 0) return;
    const batch = joinFrames(this.#outbox);
    this.#outbox = [];
    this.#outboxBytes = 0;
    if (!this.#port.send(batch)) this.#full = true;
  }

  #bye(code: number, error: RpcError): void {
    assert(this.#open, "a link closes once");
    const bye = encodeReplyFrame({ kind: "bye", failure: linkFailure(error, false) });
    const batch = joinFrames([...this.#outbox, bye]);
    this.closed();
    this.#port.send(batch);
    // A close reason holds 123 bytes of UTF-8 at most.
    this.#port.close(code, error.message.slice(0, 40));
  }
}

/** The events' encoded form is kept with them, so that a thousand watchers cost one encoding. */
function watchFrame(stream: number, response: WatchResponse): Bytes {
  let events = response.encoded.get("link") as Bytes | undefined;
  if (events === undefined) {
    events = encodeEvents(response.events);
    response.encoded.set("link", events);
  }
  return encodeWatchResponse(stream, response, events);
}
