/**
 * Counts what a client makes the server do for nothing. Each kind has a budget that comes back
 * with time; a client that exhausts one loses its connection (ENHANCE_YOUR_CALM). Legitimate
 * clients stay far below: see the limits' reasons.
 */
import { LIMITS } from "../../shared/base/limits.ts";

export class FloodGuard {
  #resets: number = LIMITS.http2ResetsBurst;
  #pings: number = LIMITS.http2PingsBurst;
  #settings: number = LIMITS.http2SettingsBurst;
  #idleFrames: number = LIMITS.http2IdleFramesBurst;

  /**
   * A stream was reset: by the client, or by the server for what the client did. False: the budget
   * is spent.
   */
  takeReset(): boolean {
    this.#resets -= 1;
    return this.#resets >= 0;
  }

  takePing(): boolean {
    this.#pings -= 1;
    return this.#pings >= 0;
  }

  takeSettings(): boolean {
    this.#settings -= 1;
    return this.#settings >= 0;
  }

  /** A frame that carries nothing: PRIORITY, an unknown type, empty DATA. */
  takeIdleFrame(): boolean {
    this.#idleFrames -= 1;
    return this.#idleFrames >= 0;
  }

  /**
   * The server has sent a reply's frame: a client that measures round trips may answer it with a
   * ping.
   */
  replied(): void {
    if (this.#pings < LIMITS.http2PingsBurst) this.#pings += 1;
  }

  /** Called once a second. */
  refill(): void {
    this.#resets = Math.min(this.#resets + LIMITS.http2ResetsPerSecond, LIMITS.http2ResetsBurst);
    this.#pings = Math.min(this.#pings + LIMITS.http2PingsPerSecond, LIMITS.http2PingsBurst);
    this.#settings = Math.min(
      this.#settings + LIMITS.http2SettingsPerSecond,
      LIMITS.http2SettingsBurst,
    );
    this.#idleFrames = Math.min(
      this.#idleFrames + LIMITS.http2IdleFramesPerSecond,
      LIMITS.http2IdleFramesBurst,
    );
  }
}
