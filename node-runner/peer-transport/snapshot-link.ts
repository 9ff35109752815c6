/** Snapshots to other members, on connections of their own so that they never delay heartbeats. */
import type { Bytes } from "../../shared/base/bytes.ts";
import { CLOSE } from "../../shared/peer/links/frame-link.ts";
import { SnapshotSender } from "../../shared/peer/links/snapshot-sender.ts";
import type { SnapshotMark } from "../../shared/raft/types.ts";
import { dial } from "./dialler.ts";
import type { DialOptions } from "./dialler.ts";
import type { FrameSocket } from "./frame-socket.ts";

export interface SnapshotSendOptions extends Pick<
  DialOptions,
  "identity" | "to" | "tls" | "url" | "frameBytesMax"
> {
  readonly mark: SnapshotMark;
  readonly chunks: AsyncIterable<Bytes>;
  /** Gets the function that gives the transfer up. */
  readonly onStart: (giveUp: () => void) => void;
}

/** Resolves once the receiver has installed it; rejects on refusal or when the connection ends. */
export function sendSnapshot(options: SnapshotSendOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    let link: FrameSocket | undefined;
    let sender: SnapshotSender | undefined;
    const giveUp = dial({
      ...options,
      purpose: "snapshot",
      onReady: (opened) => {
        link = opened;
        sender = new SnapshotSender(opened, options.mark, options.chunks);
        sender.done.then(
          () => {
            resolve();
            opened.close(CLOSE.done, "");
          },
          (error: Error) => {
            reject(error);
            giveUp();
          },
        );
      },
      onFrame: (frame) => {
        if (sender?.receive(frame) === false) link?.close(CLOSE.protocol, frame.kind);
      },
      onClose: (_code, reason) => {
        const error = new Error(`the connection ended: ${reason}`);
        sender?.fail(error);
        reject(error);
      },
    });
    options.onStart(giveUp);
  });
}
