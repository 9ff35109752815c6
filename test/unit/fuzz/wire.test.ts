/** Fuzzing of what travels between members and on the link, and of the log's entries. */
import { expect } from "vitest";
import { utf8 } from "../../../shared/base/bytes.ts";
import type { Bytes } from "../../../shared/base/bytes.ts";
import type { Message } from "../../../shared/raft/types.ts";
import { WireError, decodeCbor, encodeCbor } from "../../../shared/wire/cbor.ts";
import {
  CommandError,
  commandOf,
  decodeCommand,
  encodeCommand,
} from "../../../shared/wire/command-codec.ts";
import type { Command, Op, TxnOp } from "../../../shared/wire/command.ts";
import {
  decodeCallBatch,
  decodeReplyBatch,
  encodeCallFrame,
  encodeReplyFrame,
  joinFrames,
} from "../../../shared/wire/link-codec.ts";
import type { LinkCallFrame, LinkReplyFrame } from "../../../shared/wire/link.ts";
import { decodePeerFrame, encodePeerFrame } from "../../../shared/wire/peer-codec.ts";
import type { PeerFrame } from "../../../shared/wire/peer-codec.ts";
import { fuzz } from "./harness.ts";

const key = utf8("key");
const put = {
  kind: "put",
  key,
  value: utf8("value"),
  lease: -5n,
  previousKv: true,
  ignoreValue: false,
  ignoreLease: true,
} as const;
const range = {
  kind: "range",
  key,
  rangeEnd: Uint8Array.of(0),
  revision: 7,
  limit: 9,
  sortOrder: "descend",
  sortTarget: "mod",
  keysOnly: true,
  countOnly: false,
  minModRevision: 1,
  maxModRevision: 2,
  minCreateRevision: 3,
  maxCreateRevision: 4,
} as const;
const remove: Op = { kind: "deleteRange", key, rangeEnd: utf8("kez"), previousKv: true };
const txn: TxnOp = {
  kind: "txn",
  compares: [
    { target: "value", result: "equal", key, rangeEnd: utf8(""), operand: utf8("v") },
    { target: "mod", result: "less", key, rangeEnd: utf8("z"), operand: 2n ** 62n },
  ],
  success: [put, { kind: "txn", compares: [], success: [remove], failure: [] }],
  failure: [range],
};
const commands: readonly Command[] = [
  put,
  remove,
  txn,
  { kind: "compact", revision: 2 ** 40 },
  { kind: "leaseGrant", id: 12n, ttlSeconds: 60 },
  { kind: "leaseRevoke", ids: [1n, -1n], term: 4 },
  { kind: "leaseRevoke", ids: [1n], term: undefined },
  { kind: "alarm", action: "activate", member: 2n ** 64n - 1n, alarm: "corrupt" },
  { kind: "memberAttributes", member: 3n, name: "ä", clientUrls: ["http://a:1", "http://b:2"] },
  { kind: "clusterVersion", version: "3.7.0" },
  { kind: "memberRemove", member: 7n },
  {
    kind: "memberChange",
    steps: [
      {
        kind: "memberAdd",
        member: 4n,
        peerUrls: ["http://a:1"],
        isLearner: true,
        learnersMax: 1,
      },
      { kind: "memberRemove", member: 3n },
      { kind: "memberPromote", member: 2n },
    ],
  },
];
const request = { member: 3n, incarnation: 2 ** 47, sequence: 11 };
const identity = { client: utf8("client"), sequence: 4, floor: 900 };

fuzz({
  name: "log entries",
  seeds: commands.flatMap((command) => [
    encodeCommand({ request, identity: undefined, command }),
    encodeCommand({ request: undefined, identity, command }),
  ]),
  decode: (bytes) => {
    const entry = decodeCommand(bytes);
    expect(commandOf(bytes)).toEqual(entry.command);
    return entry;
  },
  encode: encodeCommand,
  refuses: (error) => error instanceof CommandError,
});

fuzz({
  name: "CBOR",
  seeds: [
    [1, [2 ** 40, -7, 1.5], "text", Uint8Array.of(1, 2, 3), null, undefined, true],
    [[[[[]]]], "ü".repeat(30), new Uint8Array(300)],
    -0,
    Number.MAX_SAFE_INTEGER,
  ].map(encodeCbor),
  decode: decodeCbor,
  encode: encodeCbor,
  refuses: (error) => error instanceof WireError,
});

const ends = { from: "1", to: "18446744073709551615" };
const envelope = { ...ends, term: 2 ** 40 };
const membership = {
  voters: ["1", "2"],
  learners: ["3"],
  votersOutgoing: ["4"],
  learnersNext: ["5"],
  autoLeave: true,
};
const entries = [
  { term: 3, index: 128, kind: "normal" as const, data: utf8("") },
  { term: 300, index: 129, kind: "membership" as const, data: utf8("change") },
];
const messages: readonly Message[] = [
  { ...envelope, type: "append", previousIndex: 127, previousTerm: 3, commit: 100, entries },
  { ...envelope, type: "appendReply", index: 5, reject: true, hintIndex: 4, hintTerm: 2 },
  { ...envelope, type: "heartbeat", commit: 2 ** 33, round: 9 },
  { ...envelope, type: "heartbeatReply", round: 3, sentAt: 2 ** 40, promisedMilliseconds: 891 },
  { ...envelope, type: "vote", lastIndex: 1, lastTerm: 2, transfer: true },
  { ...envelope, type: "voteReply", reject: false, commit: 7, commitTerm: 2 },
  { ...envelope, type: "snapshot", snapshot: { index: 70, term: 6, membership } },
  { ...envelope, type: "readIndexReply", context: 12, index: 2 ** 53 - 1 },
];
const hello = { version: 2, versionMin: 1, cluster: 2n ** 64n - 1n, from: 1n, to: 2n };
const frames: readonly PeerFrame[] = [
  {
    kind: "hello",
    hello: { ...hello, incarnation: 2 ** 45, purpose: "snapshot", secret: "s" },
  },
  { kind: "messages", messages },
  { kind: "call", id: 3, call: { kind: "leaseRenew", ids: [-1n, 5n] } },
  { kind: "reply", id: 3, reply: { kind: "leaseRenew", ttlSeconds: [0, 9_000_000_000] } },
  { kind: "reply", id: 4, reply: { kind: "leaseRemaining", remainingMilliseconds: -1.5 } },
  {
    kind: "reply",
    id: 6,
    reply: { kind: "members", members: [{ id: 3n, name: "m1", peerUrls: ["https://a:1"] }] },
  },
  { kind: "snapshot", mark: { index: 9, term: 2, membership } },
  { kind: "chunk", bytes: utf8("rows") },
  { kind: "refused", reason: "hash mismatch" },
];

class Malformed extends Error {}

fuzz({
  name: "peer frames",
  seeds: frames.map(encodePeerFrame),
  decode: (bytes): PeerFrame => {
    const frame = decodePeerFrame(bytes, ends);
    if (frame.kind === "malformed") throw new Malformed(frame.reason);
    return frame;
  },
  encode: encodePeerFrame,
  refuses: (error) => error instanceof Malformed,
});

const call = { kind: "call", id: 3, timeoutMilliseconds: 50, requireLeader: true } as const;
const create = {
  key,
  rangeEnd: Uint8Array.of(0),
  startRevision: -1,
  progressNotify: true,
  noPut: false,
  noDelete: true,
  previousKv: true,
  watchId: 3n,
  fragment: true,
};
const fresh = { atLeastRevision: 2 ** 40, maxAgeMilliseconds: 5 };
const calls: readonly LinkCallFrame[] = [
  { kind: "hello", version: 1, role: "edge", token: "t" },
  { ...call, request: { method: "put", op: put }, identity },
  { ...call, request: { method: "txn", op: txn, serializable: true } },
  { ...call, request: { method: "range", op: range, serializable: true, fresh } },
  { ...call, request: { method: "leaseKeepAlive", ids: [1n, -1n, 0n] } },
  { kind: "watchOpen", stream: 1, requireLeader: true },
  { kind: "watchCreate", stream: 1, create },
];

const kv = { key, value: key, createRevision: 2, modRevision: 2 ** 52, version: 3, lease: 77n };
const header = { revision: 9, raftTerm: 4 };
const failure = {
  status: "unavailable",
  message: "gone",
  code: undefined,
  outcome: "unknown",
  retryable: true,
} as const;
const response = {
  header,
  watchId: -1n,
  created: false,
  canceled: true,
  compactRevision: 4,
  cancelReason: "compacted",
  fragment: false,
  events: [{ type: "put" as const, kv, previous: kv }],
};
const results = [
  { kind: "put", revision: 9, previous: kv },
  { kind: "range", revision: 9, result: { kvs: [kv], count: 1, more: true } },
] as const;
const replies: readonly LinkReplyFrame[] = [
  { kind: "welcome", version: 1, clusterId: 5n, memberId: 2n ** 64n - 1n, appliedIndex: 9 },
  { kind: "result", id: 4, answer: { method: "txn", header, succeeded: true, results } },
  { kind: "result", id: 4, answer: { method: "put", header, previous: undefined } },
  { kind: "error", id: 4, failure },
  { kind: "watchResponse", stream: 1, response },
  { kind: "bye", failure },
];

/** A batch of frames as the link carries it. */
function batchOf<Frame>(encode: (frame: Frame) => Bytes): (frames: readonly Frame[]) => Bytes {
  return (frames) => joinFrames(frames.map(encode));
}

const refusesWire = (error: unknown): boolean => error instanceof WireError;
const callBatch = batchOf(encodeCallFrame);
const replyBatch = batchOf(encodeReplyFrame);

fuzz<LinkCallFrame[]>({
  name: "link calls",
  seeds: [...calls.map((frame) => callBatch([frame])), callBatch(calls)],
  decode: decodeCallBatch,
  encode: callBatch,
  refuses: refusesWire,
});

fuzz<LinkReplyFrame[]>({
  name: "link replies",
  seeds: [...replies.map((frame) => replyBatch([frame])), replyBatch(replies)],
  decode: decodeReplyBatch,
  encode: replyBatch,
  refuses: refusesWire,
});
