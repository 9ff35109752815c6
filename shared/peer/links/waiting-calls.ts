/** Calls under way on one link, by number: each gets its reply, or an error when time or link end. */
import { LIMITS } from "../../base/limits.ts";
import type { PeerCall, PeerReply } from "../../wire/peer-call.ts";
import type { PeerFrame } from "../../wire/peer-codec.ts";
import type { FrameLink } from "./frame-link.ts";

/** Runs a callback after so many milliseconds; returns a function that cancels it. */
export type Schedule = (milliseconds: number, callback: () => void) => () => void;

interface WaitingCall {
  readonly resolve: (reply: PeerReply) => void;
  readonly reject: (error: Error) => void;
  readonly cancelTimer: () => void;
}

export class WaitingCalls {
  readonly #schedule: Schedule;
  readonly #calls = new Map<number, WaitingCall>();
  #next = 1;

  constructor(schedule: Schedule) {
    this.#schedule = schedule;
  }

  call(link: FrameLink, call: PeerCall, timeoutMilliseconds: number): Promise<PeerReply> {
    return new Promise((resolve, reject) => {
      if (this.#calls.size >= LIMITS.peerCallsMax) return reject(new Error("too many calls"));
      const id = this.#next;
      this.#next += 1;
      const cancelTimer = this.#schedule(timeoutMilliseconds, () => {
        this.#calls.delete(id);
        reject(new Error("the member did not answer in time"));
      });
      this.#calls.set(id, { resolve, reject, cancelTimer });
      link.send({ kind: "call", id, call });
    });
  }

  /** A reply that comes too late is nobody's. */
  receive(frame: PeerFrame & { kind: "reply" }): void {
    const waiting = this.#calls.get(frame.id);
    if (waiting === undefined) return;
    this.#calls.delete(frame.id);
    waiting.cancelTimer();
    waiting.resolve(frame.reply);
  }

  rejectAll(reason: string): void {
    for (const { reject, cancelTimer } of this.#calls.values()) {
      cancelTimer();
      reject(new Error(reason));
    }
    this.#calls.clear();
  }
}
