/**
 * Which ranges of keys have replicas, as `QUORATE_REPLICAS` names them: prefixes with commas between, percent-encoded
 * where they hold a comma or bytes; `*` is every key. Each has a replica of its own in each part of the world, a
 * Durable Object named `replica:<cluster>:<location hint>:<prefix>`. Where one is too few for its readers there are
 * several, of which the others have `.<number>` behind the hint; each isolate of the edge keeps to one of them.
 */
import { prefixEnd } from "../../shared/base/bytes.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { FIRST_KEY, OPEN_END } from "../../shared/mvcc/types.ts";
import { covers } from "../auth/grant.ts";
import { percentDecode } from "../encoding.ts";
import { HttpError } from "../problem.ts";

/** Half-open, in etcd's convention. */
export interface KeySpan {
  readonly key: Bytes;
  readonly rangeEnd: Bytes;
}

/** Throws a `TypeError` for what names no prefix. */
export function spanOf(name: string): KeySpan {
  if (name === "*") return { key: FIRST_KEY, rangeEnd: OPEN_END };
  const prefix = prefixOf(name);
  return { key: prefix, rangeEnd: prefixEnd(prefix) ?? OPEN_END };
}

function prefixOf(name: string): Bytes {
  try {
    const prefix = percentDecode(name, name);
    if (prefix.length > 0) return prefix;
  } catch (error) {
    if (!(error instanceof HttpError)) throw error;
  }
  throw new TypeError(`${JSON.stringify(name)} is no percent-encoded prefix`);
}

export class FollowedRanges {
  readonly #ranges: readonly { readonly name: string; readonly prefix: Bytes }[];
  readonly #cluster: string;
  readonly #shard: number;
  /** How long a replica is waited for before the peers are asked. */
  readonly waitMilliseconds: number;
  /** Replicas that failed lately, and until when they are passed over, by the platform's clock. */
  readonly #resting = new Map<string, number>();

  /** `names`: as configured. Throws a `TypeError` for those that name no prefix. */
  constructor(
    names: readonly string[],
    options: {
      readonly cluster: string;
      readonly waitMilliseconds: number;
      /** Which of a range's replicas, from 0 on. */
      readonly shard: number;
    },
  ) {
    this.#cluster = options.cluster;
    this.#shard = options.shard;
    this.waitMilliseconds = options.waitMilliseconds;
    this.#ranges = names.map((name) => ({
      name,
      prefix: name === "*" ? new Uint8Array(0) : prefixOf(name),
    }));
  }

  /** The URL of the replica that follows all of the span, near the hint; undefined: none does. */
  urlFor(span: KeySpan, hint: string | undefined): string | undefined {
    const range = this.#ranges.find(({ prefix }) => covers([prefix], span));
    if (range === undefined) return undefined;
    const place = `${hint ?? ""}${this.#shard === 0 ? "" : `.${this.#shard}`}`;
    return replicaUrl(`replica:${this.#cluster}:${place}:${range.name}`);
  }

  isResting(url: string, now: number): boolean {
    const until = this.#resting.get(url);
    if (until === undefined) return false;
    if (now < until) return true;
    this.#resting.delete(url);
    return false;
  }

  /** The replica didn't answer: until then the peers are asked at once. */
  rest(url: string, until: number): void {
    this.#resting.set(url, until);
  }
}

/** What a replica's name says of it; undefined: it is none's. */
export function partsOfName(name: string): { hint: string; range: string } | undefined {
  const match = /^replica:[^:]+:([^:.]*)(?:\.\d+)?:(.+)$/s.exec(name);
  return match === null ? undefined : { hint: match[1] ?? "", range: match[2] ?? "" };
}

/** The base URL under which the edge finds a replica; its host is no address. */
function replicaUrl(name: string): string {
  return `http://replica/${encodeURIComponent(name)}`;
}

/** The replica's name in such a URL; undefined: it is another URL. */
export function replicaNameOf(url: string): string | undefined {
  const match = /^(?:http|ws):\/\/replica\/([^/]+)\//.exec(url);
  return match === null ? undefined : decodeURIComponent(match[1] as string);
}
