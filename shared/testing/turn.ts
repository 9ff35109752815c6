/** The end of a turn of the event loop, on any runtime. */

const platform = globalThis as unknown as { setImmediate?: (callback: () => void) => unknown };

/** Runs the callback after the input that has arrived by now. */
export function defer(callback: () => void): void {
  if (platform.setImmediate === undefined) setTimeout(callback, 0);
  else platform.setImmediate(callback);
}
