/**
 * A link between two members, after its hello, as the halves of its protocol see it: frames go out,
 * and it can be ended. Whoever owns the socket hands in what arrives.
 */
import type { PeerFrame } from "../../wire/peer-codec.ts";

export interface FrameLink {
  /** Nothing happens when the link is closing. */
  send(frame: PeerFrame): void;
  close(code: number, reason: string): void;
}

/** Why a link was closed on purpose: WebSocket close codes of the private range. */
export const CLOSE = {
  malformed: 4000,
  wrongCluster: 4001,
  wrongMember: 4002,
  wrongVersion: 4003,
  wrongSecret: 4004,
  /** A newer connection of the same member and purpose took over. */
  replaced: 4005,
  protocol: 4006,
  /** The dialling member was removed from the cluster, for good. */
  removed: 4007,
  done: 1000,
} as const;

/** Of the URL to which members dial each other. */
export const PEER_PATH = "/raft";
