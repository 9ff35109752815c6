/**
 * The platform globals that shared code may use. The libs of `shared/tsconfig.json` know no
 * platform, so each global is declared here by hand, with its reason; all of them exist in Node,
 * workerd and browsers.
 */

/** Text and bytes: ECMAScript has no UTF-8 codec of its own. */
declare class TextEncoder {
  encode(text?: string): Uint8Array<ArrayBuffer>;
  encodeInto(text: string, target: Uint8Array): { read: number; written: number };
}
declare class TextDecoder {
  constructor(label?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
  decode(bytes?: Uint8Array): string;
}

/** Cancellation: the one way in which callers of the client and the services withdraw a request. */
interface AbortSignal {
  readonly aborted: boolean;
  readonly reason: unknown;
  addEventListener(type: "abort", listener: () => void, options?: { once?: boolean }): void;
  removeEventListener(type: "abort", listener: () => void): void;
  throwIfAborted(): void;
}
declare class AbortController {
  readonly signal: AbortSignal;
  abort(reason?: unknown): void;
}

/**
 * Time, for the client alone: deadlines of calls, renewals of leases. The peer's time comes from
 * its host.
 */
declare function setTimeout(callback: () => void, milliseconds?: number): object | number;
declare function clearTimeout(timer: object | number | undefined): void;
declare const performance: { now(): number };

/** Where the client closes a batch: after the code that is running now has made its calls. */
declare function queueMicrotask(callback: () => void): void;
