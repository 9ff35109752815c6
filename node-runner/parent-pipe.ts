/**
 * Ends a process with its parent. A parent that spawns with a pipe as standard input sets the
 * variable; the pipe closes when the parent is gone for whatever reason, kill -9 included.
 */

/** Set for children whose standard input is such a pipe. */
export const PARENT_PIPE = "QUORATE_PARENT_PIPE";

/** Calls back when the parent is gone; never, if this process was not started so. */
export function onParentGone(callback: () => void): void {
  if (process.env[PARENT_PIPE] === undefined) return;
  process.stdin.on("end", callback).on("error", callback).resume();
}
