/** Peer frames: every kind comes back as it was, golden bytes pin the layout, and no input crashes the decoder. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { hexOf, utf8 } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import type { Membership, Message } from "../../../shared/raft/types.ts";
import { encodeCbor } from "../../../shared/wire/cbor.ts";
import { decodePeerFrame, encodePeerFrame } from "../../../shared/wire/peer-codec.ts";
import type { PeerFrame } from "../../../shared/wire/peer-codec.ts";
import { messageBytesMax } from "../../../shared/wire/raft-codec.ts";

const BIG = "18446744073709551615";
const ends = { from: "1", to: BIG };
const envelope = { ...ends, term: 2 ** 40 };
const membership: Membership = {
  voters: ["1", BIG],
  learners: ["3"],
  votersOutgoing: ["4"],
  learnersNext: [],
  autoLeave: true,
};

const messages: readonly Message[] = [
  {
    ...envelope,
    type: "append",
    previousIndex: 127,
    previousTerm: 3,
    commit: 100,
    entries: [
      { term: 3, index: 128, kind: "normal", data: utf8("") },
      { term: 300, index: 129, kind: "membership", data: utf8("change") },
      { term: 2 ** 53 - 1, index: 130, kind: "normal", data: new Uint8Array(300).fill(7) },
    ],
  },
  { ...envelope, type: "append", previousIndex: 0, previousTerm: 0, commit: 0, entries: [] },
  { ...envelope, type: "appendReply", index: 5, reject: true, hintIndex: 4, hintTerm: 2 },
  { ...envelope, type: "heartbeat", commit: 2 ** 33, round: 9 },
  { ...envelope, type: "heartbeat", commit: 1, round: 2, sentAt: 2 ** 40 },
  { ...envelope, type: "heartbeatReply", round: 0 },
  { ...envelope, type: "heartbeatReply", round: 3, sentAt: 2 ** 40, promisedMilliseconds: 891 },
  { ...envelope, type: "vote", lastIndex: 1, lastTerm: 2, transfer: true },
  { ...envelope, type: "preVote", lastIndex: 1, lastTerm: 2, transfer: false },
  { ...envelope, type: "voteReply", reject: false, commit: 7, commitTerm: 2 },
  { ...envelope, type: "preVoteReply", reject: true, commit: 0, commitTerm: 0 },
  { ...envelope, type: "snapshot", snapshot: { index: 70, term: 6, membership } },
  { ...envelope, type: "timeoutNow" },
  { ...envelope, type: "propose", entries: [{ kind: "normal", data: utf8("put") }] },
  { ...envelope, type: "readIndex", context: 12 },
  { ...envelope, type: "readIndexReply", context: 12, index: 2 ** 53 - 1 },
  { ...envelope, type: "transferLeader", transferee: "3" },
];

const frames: readonly PeerFrame[] = [
  {
    kind: "hello",
    hello: {
      version: 2,
      versionMin: 1,
      cluster: 2n ** 64n - 1n,
      from: 1n,
      to: 2n,
      incarnation: 2 ** 45,
      purpose: "snapshot",
      secret: "s",
    },
  },
  { kind: "welcome", version: 1 },
  { kind: "messages", messages },
  { kind: "call", id: 3, call: { kind: "leaseRenew", ids: [-1n, 5n, 2n ** 63n - 1n] } },
  { kind: "call", id: 4, call: { kind: "leaseRemaining", id: 7n } },
  { kind: "call", id: 5, call: { kind: "memberPromote", member: 2n ** 64n - 1n } },
  { kind: "call", id: 6, call: { kind: "members" } },
  { kind: "call", id: 8, call: { kind: "learnersReady", members: [3n, 2n ** 64n - 1n] } },
  { kind: "reply", id: 8, reply: { kind: "learnersReady", refusal: "not yet" } },
  { kind: "call", id: 9, call: { kind: "snapshotStaged", term: 2 ** 33, index: 2 ** 40 } },
  { kind: "reply", id: 9, reply: { kind: "snapshotStaged", chunks: 300 } },
  {
    kind: "reply",
    id: 6,
    reply: {
      kind: "members",
      members: [
        { id: 2n ** 64n - 1n, name: "m1", peerUrls: ["https://a:1", "https://b:2"] },
        { id: 3n, name: "", peerUrls: [] },
      ],
    },
  },
  { kind: "reply", id: 5, reply: { kind: "memberPromote", refusal: "" } },
  { kind: "reply", id: 6, reply: { kind: "memberPromote", refusal: "not yet" } },
  { kind: "reply", id: 3, reply: { kind: "leaseRenew", ttlSeconds: [0, 9_000_000_000] } },
  { kind: "reply", id: 4, reply: { kind: "leaseRemaining", remainingMilliseconds: -1.5 } },
  { kind: "reply", id: 4, reply: { kind: "leaseRemaining", remainingMilliseconds: undefined } },
  { kind: "reply", id: 4, reply: { kind: "refused", reason: "notLeader" } },
  { kind: "reply", id: 4, reply: { kind: "refused", reason: "noConfirmation" } },
  { kind: "ping", number: 1 },
  { kind: "pong", number: 1 },
  { kind: "snapshot", mark: { index: 9, term: 2, membership } },
  { kind: "chunk", bytes: utf8("rows") },
  { kind: "end" },
  { kind: "taken", chunks: 2 },
  { kind: "installed" },
  { kind: "refused", reason: "hash mismatch" },
];

describe("frames", () => {
  test("every kind comes back as it was", () => {
    for (const frame of frames) {
      expect(decodePeerFrame(encodePeerFrame(frame), ends)).toEqual(frame);
    }
  });

  test("a message's sender and receiver are those of the link", () => {
    const bytes = encodePeerFrame({
      kind: "messages",
      messages: [{ type: "timeoutNow", from: "8", to: "9", term: 1 }],
    });
    const frame = decodePeerFrame(bytes, { from: "1", to: "2" });
    expect(frame).toMatchObject({ messages: [{ from: "1", to: "2" }] });
  });

  test("messageBytesMax bounds what each message takes", () => {
    for (const message of messages) {
      const bytes = encodePeerFrame({ kind: "messages", messages: [message] });
      expect(bytes.length).toBeLessThanOrEqual(messageBytesMax(message));
    }
  });
});

/** The layout of version 1. A difference here is a change of the protocol: it needs a new version. */
describe("golden bytes", () => {
  const link = { from: "1", to: "2", term: 7 };
  const hello = { version: 1, versionMin: 1, cluster: 10n, from: 1n, to: 2n, incarnation: 5 };
  const append: Message = {
    ...link,
    type: "append",
    previousIndex: 300,
    previousTerm: 6,
    commit: 299,
    entries: [
      { term: 7, index: 301, kind: "normal", data: utf8("ab") },
      { term: 300, index: 302, kind: "membership", data: utf8("") },
    ],
  };
  const heartbeat: Message = { ...link, type: "heartbeat", commit: 299, round: 3 };

  test.each<[PeerFrame, string]>([
    [
      { kind: "hello", hello: { ...hello, purpose: "messages", secret: "" } },
      "8900010148000000000000000a480000000000000001480000000000000002050060",
    ],
    [
      { kind: "messages", messages: [append, heartbeat] },
      "82028286010719012c0619012b490700026162ac02010084030719012b03",
    ],
    [
      { kind: "call", id: 1, call: { kind: "leaseRenew", ids: [6n] } },
      "830301820081480000000000000006",
    ],
    [{ kind: "reply", id: 1, reply: { kind: "leaseRenew", ttlSeconds: [60] } }, "830401820081183c"],
  ])("layout %#", (frame, hex) => {
    expect(hexOf(encodePeerFrame(frame))).toBe(hex);
  });
});

describe("malformed input", () => {
  test.each([
    ["an empty frame", []],
    ["an unknown frame", [99]],
    ["a negative tag", [-1]],
    ["a missing field", [5]],
    ["a field too many", [9, 1]],
    ["an unknown message", [2, [[99, 1]]]],
    ["an unsafe term", [2, [[10, 2 ** 53]]]],
    ["an entry of unknown kind", [2, [[11, 1, Uint8Array.of(0, 2, 0)]]]],
    ["an entry past the end", [2, [[11, 1, Uint8Array.of(0, 0, 5)]]]],
    ["an entry whose term never ends", [2, [[1, 1, 1, 1, 1, new Uint8Array(20).fill(255)]]]],
    ["a proposal with a term", [2, [[11, 1, Uint8Array.of(1, 0, 0)]]]],
    ["member 0", [7, 1, 1, [0], [], [], [], false]],
    ["an unknown call", [3, 1, [9]]],
    ["an unknown reply", [4, 1, [9]]],
    ["an unknown refusal", [4, 1, [2, 2]]],
    ["an unknown purpose", [0, 1, 1, 1, 1, 1, 1, 2, ""]],
  ])("%s is told as such", (_name, value) => {
    expect(decodePeerFrame(encodeCbor(value), ends).kind).toBe("malformed");
  });

  test("a frame beyond the limit is refused unread", () => {
    const frame = decodePeerFrame(new Uint8Array(LIMITS.frameBytesMax + 1), ends);
    expect(frame.kind).toBe("malformed");
  });

  test("no bytes crash the decoder, also not altered ones of real frames", () => {
    const encoded = frames.map(encodePeerFrame);
    fc.assert(
      fc.property(
        fc.constantFrom(...encoded),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.nat(),
        (bytes, changes, cut) => {
          const altered = Uint8Array.from(bytes);
          for (const [at, byte] of changes) altered[at % altered.length] = byte;
          const input = cut % 3 === 0 ? altered.subarray(0, cut % altered.length) : altered;
          expect(decodePeerFrame(input, ends)).toHaveProperty("kind");
        },
      ),
      { numRuns: 3000 },
    );
  });
});
