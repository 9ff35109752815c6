/**
 * All watch streams of a peer: serves those that lag, in passes between which the host does other work; tells of
 * progress; and ends streams that want a leader when there has been none for three elections.
 */
import { rpcError } from "../../api/errors.ts";
import type { ErrorCode } from "../../api/errors.ts";
import { Prng } from "../../base/prng.ts";
import type { CallContext, WatchService, WatchSink, WatchStream } from "../services.ts";
import type { WatchContext } from "./watch-context.ts";
import { PeerWatchStream } from "./watch-stream.ts";
import type { StreamOwner } from "./watch-stream.ts";

/** Between passes over watchers that lag without anything to do at once, such as behind full sinks (etcd: 100 ms). */
const PASS_MILLISECONDS = 100;
const ELECTIONS_WITHOUT_LEADER = 3;
/** The least interval of progress reports (etcd: 100 ms). */
const PROGRESS_MILLISECONDS_MIN = 100;

export class WatchStreams implements WatchService, StreamOwner {
  readonly context: WatchContext;
  readonly #streams = new Set<PeerWatchStream>();
  readonly #prng: Prng;
  #cancelPass: (() => void) | undefined;
  #passPending = false;
  #stopped = false;

  constructor(context: WatchContext, seed: number) {
    this.context = context;
    this.#prng = new Prng(seed);
  }

  get streamCount(): number {
    return this.#streams.size;
  }

  open(sink: WatchSink, call: CallContext): WatchStream {
    if (this.#stopped) throw rpcError("stopped");
    this.context.checkLeader(call);
    const stream = new PeerWatchStream(this, sink, {
      requireLeader: call.requireLeader,
      progressDue: this.context.host.now() + this.#progressInterval(),
    });
    this.#streams.add(stream);
    return stream;
  }

  closed(stream: PeerWatchStream): void {
    this.#streams.delete(stream);
  }

  catchUpSoon(): void {
    if (this.#passPending || this.#stopped) return;
    this.#passPending = true;
    this.#cancelPass?.();
    this.#cancelPass = undefined;
    this.context.host.defer(() => {
      this.#passPending = false;
      this.#pass();
    });
  }

  /** Events were delivered, or sinks were found full: those left behind are served later. */
  applied(): void {
    if (this.#cancelPass !== undefined || this.#passPending) return;
    if (this.context.state.store.watches.laggingCount > 0) this.#passLater();
  }

  ticked(now: number): void {
    for (const stream of this.#streams) {
      if (stream.progressDue > now) continue;
      // Counted from when it was due, not from this tick: a short interval would last a tick longer each time.
      const interval = this.#progressInterval();
      const next = stream.progressDue + interval;
      stream.progressDue = next > now ? next : now + interval;
      stream.reportProgress();
    }
    const { consensus, config } = this.context;
    const patience = ELECTIONS_WITHOUT_LEADER * config.electionTicks * config.tickMilliseconds;
    if (consensus.leaderlessMilliseconds(now) <= patience) return;
    this.#end("noLeader", (stream) => stream.requireLeader);
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelPass?.();
    this.#end("stopped", () => true);
  }

  #end(code: ErrorCode, which: (stream: PeerWatchStream) => boolean): void {
    for (const stream of this.#streams) if (which(stream)) stream.end(rpcError(code));
  }

  #pass(): void {
    if (this.#stopped) return;
    const { watches } = this.context.state.store;
    const again = watches.catchUp();
    if (again) this.catchUpSoon();
    else if (watches.laggingCount > 0) this.#passLater();
  }

  #passLater(): void {
    this.#cancelPass = this.context.host.schedule(PASS_MILLISECONDS, () => {
      this.#cancelPass = undefined;
      this.#pass();
    });
  }

  /** With up to a tenth more, so that streams don't all report at once. */
  #progressInterval(): number {
    const wanted = this.context.config.progressNotifyMilliseconds;
    const interval = Math.max(wanted, PROGRESS_MILLISECONDS_MIN);
    return interval + this.#prng.below(Math.floor(interval / 10) + 1);
  }
}
