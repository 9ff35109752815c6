/**
 * Copies a prefix from one cluster to another and keeps following.
 *
 * First everything as it is at one revision, page by page; then what happens from the next revision
 * on, each revision of the source as one transaction at the destination (or several, if it has more
 * operations than one may have). So the destination is always as the source once was, except during
 * the first copy. Leases aren't copied. A lost connection is made anew and goes on behind the last
 * revision that the destination has. If that was compacted meanwhile, everything is copied again,
 * and keys that the source has no more are removed; before that nothing of the destination's own is.
 */
import type { Bytes } from "../../shared/base/bytes.ts";
import { compareBytes, concatBytes, prefixEnd } from "../../shared/base/bytes.ts";
import type {
  GatewayClient,
  GatewayEvent,
  GatewayKeyValue,
  GatewayWrite,
} from "./gateway-client.ts";
import { GatewayError } from "./gateway-client.ts";

export interface MirrorOptions {
  readonly source: GatewayClient;
  readonly destination: GatewayClient;
  /** Empty: everything. */
  readonly prefix: Bytes;
  /** What takes its place at the destination. */
  readonly destinationPrefix: Bytes;
  /** Operations of one transaction, at most what the destination takes (etcd: 128). */
  readonly txnOpsMax: number;
  /** Go on behind this revision of the source; 0: copy everything first. */
  readonly afterRevision: number;
  readonly signal: AbortSignal;
  /** A fault that is tried again. */
  readonly onRetry: (reason: string) => void;
}

const PAGE_KEYS = 500;
const RETRY_MILLISECONDS = 1000;
const FIRST_KEY = Uint8Array.of(0);

export class Mirror {
  /** Keys put or removed so far. */
  changes = 0;
  /** The destination is as the source was at this revision; 0 during the first copy. */
  revision: number;
  readonly #options: MirrorOptions;
  /** This destination was in step before: what the source lacks is to go. */
  #wasInStep: boolean;

  constructor(options: MirrorOptions) {
    this.#options = options;
    this.revision = options.afterRevision;
    this.#wasInStep = options.afterRevision > 0;
  }

  /** Ends with the signal, or with an error that repeating won't cure. */
  async run(): Promise<void> {
    const { signal, onRetry } = this.#options;
    while (!signal.aborted) {
      try {
        if (this.revision === 0) await this.#copy();
        await this.#follow();
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof GatewayError && error.status >= 400 && error.status < 500) throw error;
        onRetry(error instanceof Error ? error.message : String(error));
      }
      await pause(RETRY_MILLISECONDS, signal);
    }
  }

  async #copy(): Promise<void> {
    const { source, signal } = this.#options;
    const bounds = boundsOf(this.#options.prefix);
    let [start, revision] = [bounds.start, 0];
    for (;;) {
      signal.throwIfAborted();
      const page = await source.range({
        key: base64(start),
        rangeEnd: base64(bounds.end),
        revision,
        limit: PAGE_KEYS,
        keysOnly: false,
      });
      if (revision === 0) ({ revision } = page);
      const last = page.kvs.at(-1);
      const next = page.more && last !== undefined ? behind(bytesOf(last.key)) : undefined;
      if (this.#wasInStep) await this.#removeOthers(page.kvs, start, next ?? bounds.end);
      await this.#write(page.kvs.map((kv) => this.#put(kv)));
      if (next === undefined) break;
      start = next;
    }
    this.revision = revision;
    this.#wasInStep = true;
  }

  /** Removes the destination's keys in an interval of the source's that aren't among `kept`. */
  async #removeOthers(kept: readonly GatewayKeyValue[], start: Bytes, end: Bytes): Promise<void> {
    const { destination } = this.#options;
    const names = new Set(kept.map((kv) => this.#renamed(kv.key)));
    const isOpen = end.length === 1 && end[0] === 0;
    const last = isOpen ? boundsOf(this.#options.destinationPrefix).end : this.#renamedBytes(end);
    const first = this.#renamedBytes(start);
    for (let from = first.length === 0 ? FIRST_KEY : first; ;) {
      const page = await destination.range({
        key: base64(from),
        rangeEnd: base64(last),
        revision: 0,
        limit: PAGE_KEYS,
        keysOnly: true,
      });
      const others = page.kvs.filter(({ key }) => !names.has(key));
      await this.#write(others.map(({ key }) => ({ request_delete_range: { key } })));
      const final = page.kvs.at(-1);
      if (!page.more || final === undefined) return;
      from = behind(bytesOf(final.key));
    }
  }

  async #follow(): Promise<void> {
    const { source, signal, prefix } = this.#options;
    const { start, end } = boundsOf(prefix);
    const request = {
      key: base64(start),
      rangeEnd: base64(end),
      startRevision: this.revision + 1,
    };
    for await (const { events, compactRevision } of source.watch(request, signal)) {
      if (compactRevision > 0) {
        this.revision = 0;
        return;
      }
      for (const [revision, changes] of byRevision(events)) {
        await this.#write(changes.map((event) => this.#change(event)));
        this.revision = revision;
      }
    }
  }

  async #write(writes: readonly GatewayWrite[]): Promise<void> {
    const { destination, txnOpsMax } = this.#options;
    for (let at = 0; at < writes.length; at += txnOpsMax) {
      const part = writes.slice(at, at + txnOpsMax);
      await destination.write(part);
      this.changes += part.length;
    }
  }

  #put({ key, value }: GatewayKeyValue): GatewayWrite {
    return { request_put: { key: this.#renamed(key), value: value ?? "" } };
  }

  #change({ type, kv }: GatewayEvent): GatewayWrite {
    if (type !== "DELETE") return this.#put(kv);
    return { request_delete_range: { key: this.#renamed(kv.key) } };
  }

  #renamed(key: string): string {
    return base64(this.#renamedBytes(bytesOf(key)));
  }

  /** A key or a bound of the source's, as the destination has it. */
  #renamedBytes(key: Bytes): Bytes {
    const { prefix, destinationPrefix } = this.#options;
    const ends = prefix.length > 0 && compareBytes(key.subarray(0, prefix.length), prefix) !== 0;
    if (ends) return boundsOf(destinationPrefix).end;
    return concatBytes(destinationPrefix, key.subarray(prefix.length));
  }
}

/** [start, end) of a prefix as etcd has it: an end of one zero byte is the end of everything. */
function boundsOf(prefix: Bytes): { readonly start: Bytes; readonly end: Bytes } {
  const end = prefix.length === 0 ? undefined : prefixEnd(prefix);
  return { start: prefix.length === 0 ? FIRST_KEY : prefix, end: end ?? FIRST_KEY };
}

/** The first key after `key`. */
function behind(key: Bytes): Bytes {
  return concatBytes(key, FIRST_KEY);
}

function byRevision(events: readonly GatewayEvent[]): Map<number, GatewayEvent[]> {
  const revisions = new Map<number, GatewayEvent[]>();
  for (const event of events) {
    const revision = Number(event.kv.mod_revision ?? 0);
    const list = revisions.get(revision);
    if (list === undefined) revisions.set(revision, [event]);
    else list.push(event);
  }
  return revisions;
}

function base64(bytes: Bytes): string {
  return Buffer.from(bytes).toString("base64");
}

function bytesOf(text: string): Bytes {
  return new Uint8Array(Buffer.from(text, "base64"));
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener("abort", end);
  });
}
