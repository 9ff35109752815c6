/** Entries and changes as plain data, which service bindings carry as they are. */
import type { Bytes } from "../shared/base/bytes.ts";
import { text } from "../shared/client/values.ts";
import type { Entry } from "../shared/client/values.ts";
import type { Message } from "./watch-feed.ts";

export interface StoredEntry {
  readonly key: string;
  /** As text; bytes that are no UTF-8 are told by `bytes` alone. */
  readonly value: string;
  readonly bytes: Bytes;
  readonly createRevision: number;
  readonly modRevision: number;
  readonly version: number;
  readonly lease: bigint;
}

export interface StoredEvent {
  /**
   * `ready`: from here on nothing is missed. `compacted`: history was given up, so read the state
   * anew; what follows is what is left.
   */
  readonly type: "ready" | "put" | "delete" | "compacted";
  /** Where a watch that begins `after` it goes on. */
  readonly id: string;
  readonly revision: number;
  /** Of puts, and of deletes, whose value is empty. */
  readonly entry?: StoredEntry;
  /** If it was asked for, and there was one. */
  readonly previous?: StoredEntry;
}

export function storedEntry(entry: Entry<Bytes>): StoredEntry {
  const { key, bytes, createRevision, modRevision, version, lease } = entry;
  return { key, value: text.decode(bytes), bytes, createRevision, modRevision, version, lease };
}

/** A feed's message as plain data. */
export function storedEvent(
  type: StoredEvent["type"],
  { id = "", change }: Pick<Message, "id" | "change">,
): StoredEvent {
  const revision = Number.parseInt(id, 10);
  if (change === undefined) return { type, id, revision };
  const { entry, previous } = change;
  const before = previous === undefined ? {} : { previous: storedEntry(previous) };
  return { type, id, revision, entry: storedEntry(entry), ...before };
}
