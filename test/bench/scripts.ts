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
function putScript(run: Run, value: Uint8Array): Script {
  const message = putTemplate(value);
  return {
    path: "/etcdserverpb.KV/Put",
    message,
    unary: true,
    prepare() {
      writeKey(message, KEY_OFFSET, run.seed, run.nextKey);
      run.nextKey += 1;
    },
    check(source, start, end) {
      const revision = revisionOfReply(source, start, end);
      run.revisions.push(revision);
      return revision > 0;
    },
  };
}

/** Reads one of the keys that are there, by chance. */
function rangeScript(run: Run, serializable: boolean): Script {
  const message = rangeTemplate(serializable);
  return {
    path: "/etcdserverpb.KV/Range",
    message,
    unary: true,
    prepare: () => writeKey(message, KEY_OFFSET, run.seed, run.prng.below(run.keys)),
    check: (source, start, end) => isWholeRangeReply(source, start, end, message),
  };
}

/** Compare-and-set of a key of its own: each is right only behind the one before it. */
function txnScript(run: Run, value: Uint8Array): Script {
  const message = txnTemplate(value, { seed: run.seed, number: run.nextKey });
  run.nextKey += 1;
  let modRevision = 0;
  return {
    path: "/etcdserverpb.KV/Txn",
    message,
    unary: true,
    prepare: () => writeModRevision(message, modRevision),
    check(source, start, end) {
      modRevision = succeededRevision(source, start, end);
      run.revisions.push(modRevision);
      return modRevision > 0;
    },
  };
}

/** Renews one lease over one stream. */
export function keepAliveScript(id: bigint): Script {
  return {
    path: "/etcdserverpb.Lease/LeaseKeepAlive",
    message: keepAliveRequest(id),
    unary: false,
    prepare: () => undefined,
    check: (source, start, end) => remainingTtl(source, start, end) > 0,
  };
}

export function unaryScript(workload: UnaryWorkload, run: Run, value: Uint8Array): Script {
  if (workload === "put") return putScript(run, value);
  if (workload === "txn") return txnScript(run, value);
  return rangeScript(run, workload === "serializable");
}
