/**
 * A caller's link to a peer at a distance, on a clock that the test moves: the peer's own session (`link-service.ts`),
 * with every frame under way for a while, in order. As with a real link a call's frame leaves some turns of the
 * promises' queue behind the call, a watch's at once.
 */
import { RpcError } from "../../shared/api/errors.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { errorOf } from "../../shared/client/caller.ts";
import type { Caller, WatchHandle, WatchListener } from "../../shared/client/caller.ts";
import { serveLink } from "../../shared/peer/link-service.ts";
import type { LinkSession } from "../../shared/peer/link-service.ts";
import type { Services } from "../../shared/peer/services.ts";
import { decodeReplyBatch, encodeCallFrame, joinFrames } from "../../shared/wire/link-codec.ts";
import { LINK_VERSION } from "../../shared/wire/link.ts";
import type {
  LinkAnswer,
  LinkAnswerOf,
  LinkCallFrame,
  LinkMethod,
  LinkReplyFrame,
  LinkRequest,
  LinkRequestOf,
  LinkWatchCreate,
  LinkWelcome,
} from "../../shared/wire/link.ts";
import type { Clock } from "./clocks.ts";

export interface Distance {
  readonly clock: Clock;
  /** Of every frame, in either direction. */
  readonly oneWayMilliseconds: number;
  /** How long calls are held before they leave: what is asked behind them arrives before. */
  readonly callDelayMilliseconds?: number;
}

interface Pending {
  resolve(answer: LinkAnswer): void;
  reject(error: RpcError): void;
}

export class DistantLink implements Caller {
  readonly #distance: Distance;
  readonly #session: LinkSession;
  readonly #calls = new Map<number, Pending>();
  readonly #streams = new Map<number, WatchListener>();
  readonly #welcomed: (welcome: LinkWelcome) => void;
  #nextNumber = 1;
  #isOver = false;

  constructor(services: Services, distance: Distance, welcomed: (welcome: LinkWelcome) => void) {
    this.#distance = distance;
    this.#welcomed = welcomed;
    const { clock, oneWayMilliseconds } = distance;
    this.#session = serveLink(
      services,
      {
        send: (batch) => {
          clock.schedule(oneWayMilliseconds, () => this.#receive(batch));
          return true;
        },
        close: () => clock.schedule(oneWayMilliseconds, () => this.close()),
        defer: (callback) => clock.defer(callback),
      },
      { clusterId: 1n, memberId: 2n, push: true, accepts: () => true },
    );
    this.#send({ kind: "hello", version: LINK_VERSION, role: "edge", token: "" });
  }

  async call<Method extends LinkMethod>(
    request: LinkRequestOf<Method>,
  ): Promise<LinkAnswerOf<Method>> {
    const { clock, callDelayMilliseconds } = this.#distance;
    for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
    const id = this.#nextNumber++;
    const asked = request as LinkRequest;
    const frame = { kind: "call", id, timeoutMilliseconds: 0, requireLeader: true } as const;
    const answer = new Promise<LinkAnswer>((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
    });
    const send = (): void => this.#send({ ...frame, request: asked });
    if (callDelayMilliseconds === undefined) send();
    else clock.schedule(callDelayMilliseconds, send);
    return (await answer) as LinkAnswerOf<Method>;
  }

  async watch(create: LinkWatchCreate, listener: WatchListener): Promise<WatchHandle> {
    const stream = this.#nextNumber++;
    this.#streams.set(stream, listener);
    this.#send({ kind: "watchOpen", stream, requireLeader: true });
    this.#send({ kind: "watchCreate", stream, create });
    return {
      close: () => this.#send({ kind: "watchClose", stream }),
      progress: () => this.#send({ kind: "watchProgress", stream }),
    };
  }

  close(): void {
    this.#end(new RpcError("canceled", "the link was closed"));
  }

  #end(error: RpcError): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#session.closed();
    for (const pending of this.#calls.values()) pending.reject(error);
    for (const listener of this.#streams.values()) listener.end(error);
    this.#calls.clear();
    this.#streams.clear();
  }

  #send(frame: LinkCallFrame): void {
    const { clock, oneWayMilliseconds } = this.#distance;
    const batch = joinFrames([encodeCallFrame(frame)]);
    clock.schedule(oneWayMilliseconds, () => {
      if (!this.#isOver) this.#session.receive(batch);
    });
  }

  #receive(batch: Bytes): void {
    if (this.#isOver) return;
    for (const frame of decodeReplyBatch(batch)) this.#handle(frame);
  }

  #handle(frame: LinkReplyFrame): void {
    switch (frame.kind) {
      case "welcome":
        this.#welcomed(frame);
        return;
      case "result":
        this.#take(frame.id)?.resolve(frame.answer);
        return;
      case "error":
        this.#take(frame.id)?.reject(errorOf(frame.failure));
        return;
      case "watchResponse":
        this.#streams.get(frame.stream)?.response(frame.response);
        return;
      case "watchEnd":
        this.#streams.get(frame.stream)?.end(errorOf(frame.failure));
        return;
      case "bye":
        this.#end(errorOf(frame.failure));
    }
  }

  #take(id: number): Pending | undefined {
    const pending = this.#calls.get(id);
    this.#calls.delete(id);
    return pending;
  }
}
