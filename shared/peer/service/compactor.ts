/**
 * Removes compacted revisions in the background, a bounded batch at a time with pauses between
 * (etcd: 1000 rows, 10 ms). Every peer does so on its own, outside the log's order: what readers
 * may see was decided by the log entry.
 */
import { LIMITS } from "../../base/limits.ts";
import type { Compaction } from "../../mvcc/store.ts";
import type { Host } from "../host.ts";
import type { UpkeepConfig } from "../peer.ts";
import type { StateMachine } from "../state/state-machine.ts";

export class Compactor {
  readonly #host: Host;
  readonly #state: StateMachine;
  readonly #upkeep: UpkeepConfig;
  #current: Compaction | undefined;
  #cancel: (() => void) | undefined;
  #paused = false;
  #seen = -1;
  #waiting: (() => void)[] = [];

  constructor(host: Host, state: StateMachine, upkeep: UpkeepConfig) {
    this.#host = host;
    this.#state = state;
    this.#upkeep = upkeep;
  }

  /** Starts on what is owed, if it isn't under way. */
  start(): void {
    if (this.#paused) return;
    this.#cancel ??= this.#host.schedule(0, () => this.#step());
  }

  /** Entries were applied: a compaction may have been among them. */
  applied(): void {
    const { compactRevision } = this.#state.store;
    if (compactRevision === this.#seen) return;
    this.#seen = compactRevision;
    this.start();
  }

  /** Calls back once nothing is owed any more. */
  whenDone(callback: () => void): void {
    this.#waiting.push(callback);
    this.start();
  }

  /**
   * Writes nothing until `resume`: the state is being replaced. The work under way is forgotten.
   */
  pause(): void {
    this.#paused = true;
    this.#cancel?.();
    this.#cancel = undefined;
    this.#current = undefined;
  }

  resume(): void {
    this.#paused = false;
    this.start();
  }

  /** For good. Nobody waits any longer: what is still owed is done after the next start. */
  stop(): void {
    this.pause();
    this.#finish();
  }

  #step(): void {
    this.#cancel = undefined;
    this.#current ??= this.#state.store.compaction();
    const compaction = this.#current;
    if (compaction === undefined) return this.#finish();
    const { backend } = this.#state;
    if (!backend.congested) {
      let done = false;
      const budget = { rows: this.#upkeep.compactionRowsPerStep, bytes: LIMITS.stretchBytesMax };
      backend.apply(backend.visibleIndex, (writer) => {
        done = compaction.step(writer, budget);
      });
      if (done) this.#current = undefined;
    }
    this.#cancel = this.#host.schedule(this.#upkeep.compactionPauseMilliseconds, () =>
      this.#step(),
    );
  }

  #finish(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const callback of waiting) callback();
  }
}
