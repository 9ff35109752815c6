/**
 * When a replica may answer. A linearizable read waits for a round that began after it came (`Confirmations`, as in a
 * peer): a peer confirms that it is up to date and names its store's revision, and the watermark reaches that. No
 * payload travels.
 *
 * A read need not wait for an earlier round: many travel at once, and only reads that come close together share one.
 * The watch is asked for its progress right behind each round, on the same link, where the peer answers in this order
 * (`link-service.ts`): by the time that the revision is named here the watermark has reached it. So a read takes one
 * round trip. Nothing rests on that order: a watermark that is behind is asked after until it has come so far.
 *
 * Each round is also a proof of freshness: everything that was written before it began is here once it is reached.
 * The age counts from then, by this replica's clock; a clock that steps back voids what it had proved.
 */
import { LIMITS } from "../base/limits.ts";
import { Confirmations } from "../peer/consensus/confirmations.ts";
import type { ConfirmationOwner } from "../peer/consensus/confirmations.ts";
import type { ReplicaHost } from "./replica-host.ts";

/** How often waiting reads are looked at: for their deadlines, and for rounds without an answer. */
const SWEEP_MILLISECONDS = 100;
/** Longer than any read waits. */
const FRESHNESS_MILLISECONDS = 60_000;

/** What rounds ask. */
export interface RevisionSource {
  /** A revision that the store of the cluster has reached, confirmed after this was called; undefined: no link. */
  confirm(): Promise<number> | undefined;
  /** Asks the watch how far it has come, behind what was asked before. */
  askProgress(): void;
  /** The cluster is behind what this replica has seen of it: it isn't the same any more. */
  wentBack(confirmed: number, seen: number): void;
}

export class ReadPoints {
  readonly #host: Pick<ReplicaHost, "now" | "schedule" | "defer">;
  readonly #source: RevisionSource;
  readonly #watermark: () => number;
  #confirmations = new Confirmations();
  /** When the last round began. */
  #begunAt = Number.NEGATIVE_INFINITY;
  #flushing = false;
  #asking = false;
  #sweeping = false;
  /** The newest revision that was confirmed. */
  #confirmed = 0;
  #freshAt: number | undefined;
  #lastNow = Number.NEGATIVE_INFINITY;
  /** Grows when the clock steps back: what a round before proves is void. */
  #clock = 0;

  constructor(
    host: Pick<ReplicaHost, "now" | "schedule" | "defer">,
    source: RevisionSource,
    watermark: () => number,
  ) {
    this.#host = host;
    this.#source = source;
    this.#watermark = watermark;
  }

  /** How far at most the state lies behind the cluster, in milliseconds; undefined: not known. */
  ageMilliseconds(): number | undefined {
    const now = this.#now();
    return this.#freshAt === undefined ? undefined : now - this.#freshAt;
  }

  get waitingCount(): number {
    return this.#confirmations.waitingCount;
  }

  /** Tells the owner once a round that begins after this call is reached. */
  join(owner: ConfirmationOwner, timeoutMilliseconds: number): void {
    this.#confirmations.join(owner, this.#now() + timeoutMilliseconds);
    this.#sweepLater();
    this.flushSoon();
  }

  /**
   * There is a link, or room for a round: reads that wait get one at the end of this turn, or so long after the last
   * one that others may share it.
   */
  flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    const flush = (): void => {
      this.#flushing = false;
      this.#flush();
    };
    const since = this.#now() - this.#begunAt;
    const wait = LIMITS.replicaGatherMilliseconds - since;
    // A clock that stepped back doesn't say how long ago it was.
    if (since < 0 || wait <= 0) this.#host.defer(flush);
    else this.#host.schedule(wait, flush);
  }

  /** The watermark has grown. */
  reached(): void {
    this.#confirmations.appliedTo(this.#watermark());
    if (this.#confirmations.hasJoining) this.flushSoon();
  }

  /** The state was replaced: no round that began before says anything of it. */
  failAll(): void {
    this.#confirmations.failAll("leaderChanged");
    this.#freshAt = undefined;
    this.#confirmed = 0;
    // Answers that are still to come belong to nobody.
    this.#confirmations = new Confirmations();
    this.#clock += 1;
  }

  #flush(): void {
    const { hasJoining, roundCount } = this.#confirmations;
    if (!hasJoining || roundCount >= LIMITS.replicaRoundsMax) return;
    const now = this.#now();
    this.#begunAt = now;
    const clock = this.#clock;
    const proved = (): void => {
      if (clock === this.#clock) this.#freshAt = Math.max(this.#freshAt ?? now, now);
    };
    const proof = { confirmed: proved, failed: (): void => undefined };
    this.#confirmations.join(proof, now + FRESHNESS_MILLISECONDS);
    this.#confirmations.flush((context) => this.#ask(context), now);
  }

  #ask(context: number): "noLeader" | undefined {
    const answer = this.#source.confirm();
    if (answer === undefined) return "noLeader";
    const confirmations = this.#confirmations;
    const seen = this.#watermark();
    answer.then(
      (revision) => {
        if (confirmations !== this.#confirmations) return;
        if (revision < seen) {
          this.#source.wentBack(revision, seen);
          return;
        }
        this.#confirmed = Math.max(this.#confirmed, revision);
        confirmations.answered({ context, index: revision }, this.#watermark());
        if (confirmations.hasJoining) this.flushSoon();
        if (revision > this.#watermark()) this.#source.askProgress();
      },
      // The sweep asks again while somebody waits.
      () => undefined,
    );
    this.#askProgressBehind();
    return undefined;
  }

  /** In a later turn: by then what was asked has left. */
  #askProgressBehind(): void {
    if (this.#asking) return;
    this.#asking = true;
    this.#host.defer(() => {
      this.#asking = false;
      this.#source.askProgress();
    });
  }

  #sweepLater(): void {
    if (this.#sweeping) return;
    this.#sweeping = true;
    this.#host.schedule(SWEEP_MILLISECONDS, () => {
      this.#sweeping = false;
      this.#confirmations.sweep((context) => this.#ask(context), this.#now());
      if (this.#confirmed > this.#watermark()) this.#source.askProgress();
      if (this.#confirmations.waitingCount > 0) this.#sweepLater();
      if (this.#confirmations.hasJoining) this.flushSoon();
    });
  }

  #now(): number {
    const now = this.#host.now();
    if (now < this.#lastNow) {
      this.#clock += 1;
      this.#freshAt = undefined;
    }
    this.#lastNow = now;
    return now;
  }
}
