/**
 * Tells the cluster this member's name and client URLs, through the log, until they are applied here: etcd's sign
 * of being ready to serve. Nothing is proposed if the cluster knows them already; then a confirmed read point is
 * the sign.
 */
import type { ServiceContext } from "./service/context.ts";

const RETRY_MILLISECONDS = 500;

export class MemberPublisher {
  readonly done: Promise<void>;
  readonly #context: ServiceContext;
  #resolve: () => void = () => {};
  #triedAt = Number.NEGATIVE_INFINITY;
  #over = false;

  constructor(context: ServiceContext) {
    this.#context = context;
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  start(): void {
    this.#try();
  }

  /** A leader may have been found. */
  review(): void {
    this.#try();
  }

  ticked(): void {
    this.#try();
  }

  stop(): void {
    this.#over = true;
  }

  #try(): void {
    const { host, consensus, config, state } = this.#context;
    if (this.#over || consensus.leadership.leader === undefined) return;
    const now = host.now();
    if (now - this.#triedAt < RETRY_MILLISECONDS) return;
    this.#triedAt = now;
    const known = state.members.member(config.memberId);
    const same =
      known !== undefined &&
      known.name === config.name &&
      known.clientUrls.join(" ") === config.clientUrls.join(" ");
    const failed = (): void => {};
    if (same) {
      consensus.confirm({ confirmed: () => this.#finish(), failed }, RETRY_MILLISECONDS);
      return;
    }
    const { memberId: member, name, clientUrls } = config;
    consensus.propose(
      { kind: "memberAttributes", member, name, clientUrls },
      { applied: () => this.#finish(), failed },
      { timeoutMilliseconds: 2 * RETRY_MILLISECONDS },
    );
  }

  #finish(): void {
    this.#over = true;
    this.#resolve();
  }
}
