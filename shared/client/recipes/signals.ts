/** Small things that recipes share: joined signals, names of one's own. */
import { RpcError } from "../../api/errors.ts";
import { hexOf } from "../../base/bytes.ts";
import { defaultPlatform } from "../platform.ts";

/** Aborts as soon as one of them does, with its reason. `off` lets go of them. */
export function joinSignals(...signals: readonly (AbortSignal | undefined)[]): {
  readonly signal: AbortSignal;
  readonly off: () => void;
} {
  const joined = new AbortController();
  const abort = (): void => joined.abort(signals.find((each) => each?.aborted)?.reason);
  for (const signal of signals) {
    if (signal?.aborted === true) abort();
    else signal?.addEventListener("abort", abort, { once: true });
  }
  return {
    signal: joined.signal,
    off: () => {
      for (const signal of signals) signal?.removeEventListener("abort", abort);
    },
  };
}

/** Throws what an aborted signal stands for: the reason, if it is an error, else "canceled". */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  const { reason } = signal;
  if (reason instanceof RpcError) throw reason;
  throw new RpcError("canceled", "the wait was cancelled", { code: "canceled", cause: reason });
}

const NAME_BYTES = 12;

/** Nobody else's. */
export function uniqueName(): string {
  return hexOf(defaultPlatform().randomBytes(NAME_BYTES));
}
