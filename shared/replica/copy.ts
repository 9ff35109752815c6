/**
 * The copy of a range at one revision, page by page into a second store beside the one that is read, which it
 * replaces in one step. Memory holds one page; a copy that breaks off leaves nothing.
 */
import { RpcError } from "../api/errors.ts";
import type { Backend, BatchWriter } from "../backend/backend.ts";
import type { Bytes } from "../base/bytes.ts";
import { Slab } from "../base/slab.ts";
import type { Caller } from "../client/caller.ts";
import { keyAfter } from "../client/keys.ts";
import { sealCopy, writeCopy } from "../mvcc/replica-store.ts";
import { wholeRange } from "../mvcc/types.ts";
import type { LinkAnswerOf } from "../wire/link.ts";

/** Keys of a page: at first, and at most. In between pages approach so many bytes. */
const PAGE_KEYS_FIRST = 16;
const PAGE_KEYS_MAX = 4096;
const PAGE_BYTES = 1024 * 1024;

export interface CopyOptions {
  readonly key: Bytes;
  readonly rangeEnd: Bytes;
  readonly backend: Backend;
  /** Throws once the copy is wanted no more; asked before each write. */
  check(): void;
  /** Rows that the new store has beside the copy. */
  also(writer: BatchWriter): void;
  /** Called in the very moment in which readers begin to see the copy. */
  switched(): void;
}

/** Resolves with the revision of the copy, once it is in place. Rejects with what the source or `check` say. */
export async function copyRange(source: Caller, options: CopyOptions): Promise<number> {
  const { backend, rangeEnd } = options;
  const shadow = backend.shadow();
  const slab = new Slab();
  try {
    let { key } = options;
    let base = 0;
    let limit = PAGE_KEYS_FIRST;
    for (let more = true; more;) {
      const page = await pageFrom(source, { key, rangeEnd, revision: base, limit });
      options.check();
      if (base === 0) base = page.header.revision;
      shadow.apply((writer) => writeCopy(page.kvs, writer, slab));
      const last = page.kvs.at(-1);
      more = page.more && last !== undefined;
      if (last !== undefined) key = keyAfter(last.key);
      limit = nextLimit(page.asked, page.kvs);
    }
    shadow.apply((writer) => {
      sealCopy(base, writer);
      options.also(writer);
    });
    await shadow.install(base, () => options.switched());
    return base;
  } catch (error) {
    await shadow.discard();
    throw error;
  }
}

type Page = LinkAnswerOf<"range"> & { readonly asked: number };

/** One page; of the first the source chooses the revision. Halves a limit whose answer is too large to be sent. */
async function pageFrom(
  source: Caller,
  at: { key: Bytes; rangeEnd: Bytes; revision: number; limit: number },
): Promise<Page> {
  const { key, rangeEnd, revision } = at;
  for (let { limit } = at; ; limit = Math.ceil(limit / 2)) {
    try {
      const answer = await source.call({
        method: "range",
        op: { kind: "range", ...wholeRange(key, rangeEnd), revision, limit },
        // Later pages need no confirmation, but a peer that has come so far.
        ...(revision === 0
          ? { serializable: false }
          : { serializable: true, fresh: { atLeastRevision: revision } }),
      });
      return { ...answer, asked: limit };
    } catch (error) {
      const isTooLarge =
        error instanceof RpcError && error.status === "outOfRange" && error.code === undefined;
      if (!isTooLarge || limit === 1) throw error;
    }
  }
}

function nextLimit(asked: number, kvs: Page["kvs"]): number {
  const bytes = kvs.reduce((sum, { key, value }) => sum + key.length + value.length, 0);
  const fitting = Math.floor((asked * PAGE_BYTES) / Math.max(1, bytes));
  return Math.max(1, Math.min(fitting, 4 * asked, PAGE_KEYS_MAX));
}
