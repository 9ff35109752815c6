/**
 * How often a caller may ask: a token bucket for each, in this isolate's memory, and Cloudflare's
 * rate limiter where one is bound. Both are about load, not about fairness to the last request:
 * isolates don't know of each other. Buckets are bounded: the one that was unused for longest is
 * forgotten, which can only let its caller ask more.
 */
import { RpcError } from "../shared/api/errors.ts";
import { LIMITS } from "../shared/base/limits.ts";

interface Bucket {
  tokens: number;
  filledAt: number;
}

export class RateLimiter {
  readonly #perSecond: number;
  readonly #burst: number;
  readonly #buckets = new Map<string, Bucket>();

  /** A burst holds two seconds' worth. */
  constructor(perSecond: number) {
    this.#perSecond = perSecond;
    this.#burst = 2 * perSecond;
  }

  get size(): number {
    return this.#buckets.size;
  }

  /** Takes one request of this caller; false: too many. */
  take(caller: string, nowMilliseconds: number): boolean {
    const bucket = this.#buckets.get(caller) ?? { tokens: this.#burst, filledAt: nowMilliseconds };
    const passed = Math.max(0, nowMilliseconds - bucket.filledAt) / 1000;
    bucket.tokens = Math.min(this.#burst, bucket.tokens + passed * this.#perSecond);
    bucket.filledAt = nowMilliseconds;
    this.#buckets.delete(caller);
    this.#buckets.set(caller, bucket);
    if (this.#buckets.size > LIMITS.edgeRateCallersMax) {
      const [oldest = ""] = this.#buckets.keys();
      this.#buckets.delete(oldest);
    }
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }
}

/** 429: nothing happened, and the same request may succeed in a second. */
export function tooManyRequests(): RpcError {
  return new RpcError("resourceExhausted", "too many requests: wait a second and try again");
}
