/**
 * Frames of one WebSocket passed on to another, each looked at on its way. A socket can't be asked
 * to rest: a side that reads so slowly that too much waits for it ends both with 1013, as far as the
 * runtime tells.
 */
import { LIMITS } from "../shared/base/limits.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import type { ServerSocket } from "./workerd.ts";

export type Frame = string | Bytes;

/** Codes that say that none came: they may not be sent on. */
const UNSENDABLE_CODES: ReadonlySet<number> = new Set([1004, 1005, 1006, 1015]);

/** One direction, until either side ends, or a frame may not pass (`pass` throws). */
export function relay(from: ServerSocket, to: ServerSocket, pass: (frame: Frame) => Frame): void {
  const endBoth = (code: number, text: string): void => {
    const reason = text.slice(0, 40);
    from.close(code, reason);
    to.close(code, reason);
  };
  from.binaryType = "arraybuffer";
  from.addEventListener("message", ({ data }) => {
    try {
      to.send(pass(typeof data === "string" ? data : new Uint8Array(data as ArrayBuffer)));
    } catch (error) {
      endBoth(1008, error instanceof Error ? error.message : String(error));
      return;
    }
    const unsent = to.bufferedAmount ?? 0;
    if (unsent > LIMITS.linkUnsentBytesSlow) endBoth(1013, "too slow a reader: begin anew");
  });
  from.addEventListener("close", ({ code, reason }) => {
    to.close(code === undefined || UNSENDABLE_CODES.has(code) ? 1000 : code, reason ?? "");
  });
  from.addEventListener("error", () => to.close(1012, "the other side broke"));
}
