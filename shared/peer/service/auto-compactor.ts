/**
 * Compacts on its own while this peer leads, by etcd's two rules.
 *
 * By time: the revision is noted ten times in each interval (the period, an hour at most). Once a
 * whole period is noted, what was current a period ago is compacted, then again after each interval.
 * By revision: every five minutes all but the newest so many revisions are compacted.
 */
import type { AutoCompaction } from "../peer.ts";
import type { ServiceContext } from "./context.ts";

const HOUR_MILLISECONDS = 3_600_000;
const REVISION_CHECK_MILLISECONDS = 300_000;
/** Notes of the revision in one interval. */
const NOTES_PER_INTERVAL = 10;

export class AutoCompactor {
  readonly #context: ServiceContext;
  readonly #rule: AutoCompaction;
  /** By time: what the revision was at each note of one period, the oldest first. */
  #notes: number[] = [];
  #compactedAt = 0;
  #isFirst = true;
  #last = 0;
  #cancel: (() => void) | undefined;

  constructor(context: ServiceContext, rule: AutoCompaction) {
    this.#context = context;
    this.#rule = rule;
  }

  start(): void {
    if (this.#rule.mode === "off") return;
    this.#compactedAt = this.#context.host.now();
    this.#note();
    this.#schedule();
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  get #stepMilliseconds(): number {
    if (this.#rule.mode !== "periodic") return REVISION_CHECK_MILLISECONDS;
    return Math.min(this.#rule.milliseconds, HOUR_MILLISECONDS) / NOTES_PER_INTERVAL;
  }

  #schedule(): void {
    this.#cancel = this.#context.host.schedule(this.#stepMilliseconds, () => {
      this.#schedule();
      this.#step();
    });
  }

  #step(): void {
    const target = this.#rule.mode === "periodic" ? this.#byTime() : this.#byRevision();
    if (target !== undefined) this.#compact(target);
    this.#note();
  }

  /** Also where it doesn't lead, so that a new leader knows what was current a period ago. */
  #note(): void {
    if (this.#rule.mode !== "periodic") return;
    this.#notes.push(this.#context.state.store.revision);
    const kept = Math.floor(this.#rule.milliseconds / this.#stepMilliseconds);
    if (this.#notes.length > kept) this.#notes.shift();
  }

  #byTime(): number | undefined {
    if (this.#rule.mode !== "periodic") return undefined;
    const { milliseconds } = this.#rule;
    const due = this.#isFirst ? milliseconds : Math.min(milliseconds, HOUR_MILLISECONDS);
    // The step's timer may be a little early.
    const waited = this.#context.host.now() - this.#compactedAt + this.#stepMilliseconds / 2;
    return waited < due ? undefined : this.#notes[0];
  }

  #byRevision(): number | undefined {
    if (this.#rule.mode !== "revision") return undefined;
    return this.#context.state.store.revision - this.#rule.keep;
  }

  #compact(revision: number): void {
    const { consensus, state, host } = this.#context;
    if (!consensus.leadership.leads) return;
    if (revision <= 1 || revision === this.#last || revision <= state.store.compactRevision) return;
    host.report("info", "compacting", { revision, mode: this.#rule.mode });
    consensus.propose(
      { kind: "compact", revision },
      {
        applied: () => {
          this.#last = revision;
          this.#isFirst = false;
          this.#compactedAt = host.now();
        },
        failed: (error) => {
          host.report("warn", "a compaction failed; the next one is due soon", { revision, error });
        },
      },
    );
  }
}
