/** What a client of the closed loop asks again and again, and how it checks each answer. */
import {
  isWholeRangeReply,
  keepAliveRequest,
  KEY_OFFSET,
  putTemplate,
  rangeTemplate,
  remainingTtl,
  revisionOfReply,
  succeededRevision,
  txnTemplate,
  writeKey,
  writeModRevision,
} from "./messages.ts";
import type { Run } from "./run.ts";

export const UNARY_WORKLOADS = ["put", "range", "serializable", "txn"] as const;
export type UnaryWorkload = (typeof UNARY_WORKLOADS)[number];

export interface Script {
  readonly path: string;
  /** The framed request. */
  readonly message: Buffer;
  /** False: one stream for all messages. */
  readonly unary: boolean;
  /** Makes the message the next request. */
  prepare(): void;
  /** True when `source[start, end)` is the right answer to it. */
  check(source: Buffer, start: number, end: number): boolean;
}

/** Puts distinct keys. */
class PutScript implements Script {
  readonly path = "/etcdserverpb.KV/Put";
  readonly message: Buffer;
  readonly unary = true;
  readonly #run: Run;

  constructor(run: Run, value: Uint8Array) {
    this.#run = run;
    this.message = putTemplate(value);
  }

  prepare(): void {
    writeKey(this.message, KEY_OFFSET, this.#run.seed, this.#run.nextKey);
    this.#run.nextKey += 1;
  }

  check(source: Buffer, start: number, end: number): boolean {
    const revision = revisionOfReply(source, start, end);
    this.#run.revisions.push(revision);
    return revision > 0;
  }
}

/** Reads one of the keys that are there, by chance. */
class RangeScript implements Script {
  readonly path = "/etcdserverpb.KV/Range";
  readonly message: Buffer;
  readonly unary = true;
  readonly #run: Run;

  constructor(run: Run, serializable: boolean) {
    this.#run = run;
    this.message = rangeTemplate(serializable);
  }

  prepare(): void {
    const run = this.#run;
    writeKey(this.message, KEY_OFFSET, run.seed, run.prng.below(run.keys));
  }

  check(source: Buffer, start: number, end: number): boolean {
    return isWholeRangeReply(source, start, end, this.message);
  }
}

/** Compare-and-set of a key of its own: each is right only behind the one before it. */
class TxnScript implements Script {
  readonly path = "/etcdserverpb.KV/Txn";
  readonly message: Buffer;
  readonly unary = true;
  readonly #run: Run;
  #modRevision = 0;

  constructor(run: Run, value: Uint8Array) {
    this.#run = run;
    this.message = txnTemplate(value, { seed: run.seed, number: run.nextKey });
    run.nextKey += 1;
  }

  prepare(): void {
    writeModRevision(this.message, this.#modRevision);
  }

  check(source: Buffer, start: number, end: number): boolean {
    this.#modRevision = succeededRevision(source, start, end);
    this.#run.revisions.push(this.#modRevision);
    return this.#modRevision > 0;
  }
}

/** Renews one lease over one stream. */
export class KeepAliveScript implements Script {
  readonly path = "/etcdserverpb.Lease/LeaseKeepAlive";
  readonly message: Buffer;
  readonly unary = false;

  constructor(id: bigint) {
    this.message = keepAliveRequest(id);
  }

  prepare(): void {}

  check(source: Buffer, start: number, end: number): boolean {
    return remainingTtl(source, start, end) > 0;
  }
}

export function unaryScript(workload: UnaryWorkload, run: Run, value: Uint8Array): Script {
  if (workload === "put") return new PutScript(run, value);
  if (workload === "txn") return new TxnScript(run, value);
  return new RangeScript(run, workload === "serializable");
}
