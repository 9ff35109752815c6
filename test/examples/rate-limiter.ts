/**
 * A rate limiter that all servers of an app share: so many calls a caller in a window of time. The
 * key's version counts the calls, a lease ends the window; one transaction a call decides, so that
 * no two servers ever let the last one in twice.
 */
import { key, get, put } from "../../shared/client/index.ts";
import type { Store } from "../../shared/client/index.ts";

export class RateLimiter {
  readonly #store: Store<string>;
  readonly #limit: number;
  readonly #windowSeconds: number;

  constructor(store: Store<string>, options: { limit: number; windowSeconds: number }) {
    this.#store = store.namespace("rate/");
    this.#limit = options.limit;
    this.#windowSeconds = options.windowSeconds;
  }

  /** Counts the call, and tells whether it may go on. */
  async allow(caller: string): Promise<boolean> {
    for (;;) {
      const counted = await this.#store
        .txn()
        .if(key(caller).exists(), key(caller).version.lessThan(this.#limit))
        .do(put(caller, "", { keepLease: true }))
        .else(get(caller))
        .commit();
      if (counted.succeeded) return true;
      if (counted.results[0].entry !== undefined) return false;
      if (await this.#openWindow(caller)) return true;
    }
  }

  /** The first call of a window. False: somebody else's was the first. */
  async #openWindow(caller: string): Promise<boolean> {
    const lease = await this.#store.lease(this.#windowSeconds);
    // It is not renewed: its end is the window's.
    lease.close();
    const opened = await this.#store.txn({
      if: [key(caller).isMissing()],
      do: [put(caller, "", { lease })],
    });
    if (!opened.succeeded) await lease.revoke();
    return opened.succeeded;
  }
}
