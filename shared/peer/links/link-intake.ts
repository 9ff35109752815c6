/**
 * What another member says on a link of messages: raft's messages and small calls; where it has no
 * way to dial back, its snapshots too. Hands it to the inbox and sends the replies.
 */
import { LIMITS } from "../../base/limits.ts";
import type { NodeId } from "../../raft/types.ts";
import type { PeerCall } from "../../wire/peer-call.ts";
import type { PeerFrame } from "../../wire/peer-codec.ts";
import type { PeerInbox } from "../host.ts";
import type { FrameLink } from "./frame-link.ts";
import { SnapshotReceiver } from "./snapshot-receiver.ts";

export class LinkIntake {
  readonly #link: FrameLink;
  readonly #from: NodeId;
  readonly #inbox: () => PeerInbox;
  readonly #snapshots: SnapshotReceiver;
  #calls = 0;

  constructor(link: FrameLink, from: NodeId, inbox: () => PeerInbox) {
    this.#link = link;
    this.#from = from;
    this.#inbox = inbox;
    this.#snapshots = new SnapshotReceiver(link, (mark, chunks) =>
      inbox().snapshot(from, mark, chunks),
    );
  }

  /** False: the frame is out of place, or one too many. */
  receive(frame: PeerFrame): boolean {
    if (frame.kind === "messages") {
      this.#inbox().messages(this.#from, frame.messages);
      return true;
    }
    if (frame.kind !== "call") return this.#snapshots.receive(frame);
    if (this.#calls >= LIMITS.peerCallsMax) return false;
    void this.#answer(frame.id, frame.call);
    return true;
  }

  closed(reason: string): void {
    this.#snapshots.closed(reason);
  }

  async #answer(id: number, call: PeerCall): Promise<void> {
    this.#calls += 1;
    try {
      const reply = await this.#inbox().call(this.#from, call);
      this.#link.send({ kind: "reply", id, reply });
    } catch {
      // The caller asks another member, or again.
      this.#link.send({ kind: "reply", id, reply: { kind: "refused", reason: "noConfirmation" } });
    } finally {
      this.#calls -= 1;
    }
  }
}
