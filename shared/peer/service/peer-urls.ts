/**
 * The peer URLs of a member that is added or moved, and the id that follows from them: both as etcd
 * has them.
 */
import { ByteReader } from "../../base/byte-reader.ts";
import { concatBytes, utf8 } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import { sha1 } from "../../base/sha1.ts";

/** Scheme, host and port, nothing behind; the host may be a name, an address or `[ipv6]`. */
const NETWORK_URL = /^https?:\/\/(?:\[[0-9a-f:.%]+\]|[^\s/?#:@[\]]+):\d{1,5}$/i;
const SOCKET_URL = /^unixs?:\/\/[^\s/?#]+$/;

/** The URLs in order; undefined when there is none, or one that a peer can't be reached at. */
export function checkedPeerUrls(urls: readonly string[]): string[] | undefined {
  const trimmed = urls.map((url) => url.trim());
  const usable = (url: string): boolean => NETWORK_URL.test(url) || SOCKET_URL.test(url);
  if (trimmed.length === 0 || trimmed.length > LIMITS.memberUrlsMax) return undefined;
  return trimmed.every(usable) ? trimmed.toSorted() : undefined;
}

/**
 * The id of a member that joins a running cluster: the first 8 bytes of SHA-1 over its sorted URLs
 * and the time. `wallClock`: milliseconds since 1970.
 */
export function memberIdOf(sortedUrls: readonly string[], wallClock: number): bigint {
  const seconds = String(Math.floor(wallClock / 1000));
  const digest = sha1(concatBytes(utf8(sortedUrls.join("")), utf8(seconds)));
  return new ByteReader(digest).uint64();
}
