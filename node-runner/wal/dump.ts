/**
 * Walks a log's folder for people: every segment, record and item with its place, whoever the log
 * belongs to and in whatever state it is. Where reading can't go on it says where and why, and goes
 * on at the next intact record if one stands behind. Changes nothing on the disk; works beside a
 * running peer, whose last record may then show as torn.
 */
import type { Bytes } from "../../shared/base/bytes.ts";
import type { Files } from "../files/files.ts";
import type { Item } from "./layout.ts";
import {
  RECORD_HEADER_BYTES,
  RECORD_MARKER,
  SEGMENT_HEADER_BYTES,
  WAL_FORMAT,
  alignRecord,
  decodeSegmentHeader,
  recordChecksum,
  sequenceOfName,
} from "./layout.ts";
import type { RecordHead } from "./record-reader.ts";
import { UnknownItemError, readItems, recordAt, recordBehind } from "./record-reader.ts";

/** One thing that was found, in the log's order. Offsets count from the start of `path`. */
export type Finding =
  | {
      readonly kind: "segment";
      readonly path: string;
      readonly format: string;
      readonly salt: number;
      readonly bytes: number;
    }
  | { readonly kind: "record"; readonly path: string; readonly record: RecordHead }
  | {
      readonly kind: "item";
      readonly path: string;
      readonly offset: number;
      readonly bytes: number;
      readonly item: Item;
    }
  /** Reading stops here. `damage`: what follows proves that something durable is gone. */
  | {
      readonly kind: "stop";
      readonly path: string;
      readonly offset: number;
      readonly reason: string;
      readonly damage: boolean;
    };

/** Throws the disk's errors; whatever the files hold is a finding. */
export function* dumpLog(files: Files, directory: string): Generator<Finding, void, undefined> {
  const walk = new Walk();
  const names = files.list(directory).filter((name) => sequenceOfName(name) !== undefined);
  for (const [place, name] of names.entries()) {
    const path = `${directory}/${name}`;
    const expected = (sequenceOfName(names[0] as string) as number) + place;
    if (sequenceOfName(name) !== expected) {
      yield stop(path, 0, {
        reason: `the segment with sequence ${expected} is missing`,
        damage: true,
      });
    }
    const file = files.open(path, { create: false });
    try {
      yield* walk.segment(path, file.read(0, file.size()), place === names.length - 1);
    } finally {
      file.close();
    }
  }
}

function stop(
  path: string,
  offset: number,
  why: { readonly reason: string; readonly damage: boolean },
): Finding {
  return { kind: "stop", path, offset, ...why };
}

class Walk {
  #last: RecordHead | undefined;

  *segment(path: string, bytes: Bytes, isLast: boolean): Generator<Finding, void, undefined> {
    const header = decodeSegmentHeader(bytes);
    if (header === undefined) {
      const reason = "no segment begins here: its header is absent or damaged";
      return yield stop(path, 0, { reason, damage: !isLast });
    }
    const { salt, format } = header;
    yield { kind: "segment", path, format, salt, bytes: bytes.length };
    if (format !== WAL_FORMAT) {
      const reason = `format ${format}, this version reads ${WAL_FORMAT}: another version wrote it`;
      return yield stop(path, 8, { reason, damage: true });
    }
    let offset = SEGMENT_HEADER_BYTES;
    for (;;) {
      const record = recordAt(bytes, offset, salt);
      if (record !== undefined && this.#fits(record)) {
        yield* this.#record(path, bytes, record);
        offset = alignRecord(record.end);
        continue;
      }
      const ordinal = this.#last?.ordinal ?? 0;
      const behind = recordBehind(bytes, { from: offset, salt, ordinal });
      const reason = this.#reason(bytes, offset, { salt, record, behind });
      // The end of a segment that others follow is where the log went on in the next one.
      if (behind !== undefined || isLast) {
        yield stop(path, offset, { reason, damage: behind !== undefined });
      }
      if (behind === undefined) return;
      this.#last = undefined;
      offset = behind.start;
    }
  }

  #fits(record: RecordHead): boolean {
    if (this.#last === undefined) return true;
    return record.ordinal === this.#last.ordinal + 1 && record.previous === this.#last.crc;
  }

  *#record(path: string, bytes: Bytes, record: RecordHead): Generator<Finding, void, undefined> {
    this.#last = record;
    yield { kind: "record", path, record };
    const items: Finding[] = [];
    let offset = record.start + RECORD_HEADER_BYTES;
    try {
      readItems(bytes, record, (item, { start, end }) => {
        items.push({ kind: "item", path, offset: start, bytes: end - start, item });
        offset = end;
      });
    } catch (cause) {
      if (!(cause instanceof UnknownItemError)) throw cause;
      yield* items;
      const reason = `${cause.message}; a newer version wrote it?`;
      return yield stop(path, offset, { reason, damage: true });
    }
    yield* items;
  }

  #reason(
    bytes: Bytes,
    offset: number,
    found: {
      readonly salt: number;
      readonly record: RecordHead | undefined;
      readonly behind: RecordHead | undefined;
    },
  ): string {
    const what =
      found.record === undefined
        ? whyNoRecord(bytes, offset, found.salt)
        : this.#whyForeign(found.record);
    if (found.behind === undefined) return `the log ends: ${what}`;
    const { ordinal, start } = found.behind;
    return `damaged: ${what}, yet record ${ordinal} stands at ${start}`;
  }

  /** An intact record that doesn't continue this log. */
  #whyForeign(record: RecordHead): string {
    const { ordinal = 0 } = this.#last ?? {};
    if (record.ordinal <= ordinal)
      return `record ${record.ordinal} is the rest of an older segment`;
    return `record ${record.ordinal} doesn't follow record ${ordinal}`;
  }
}

/** Why no intact record stands at `offset`. */
function whyNoRecord(bytes: Bytes, offset: number, salt: number): string {
  if (offset + RECORD_HEADER_BYTES >= bytes.length) return "the file ends";
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(offset, true) !== RECORD_MARKER) {
    const rest = bytes.subarray(offset).some((byte) => byte !== 0);
    return rest ? "no record begins here" : "only zeros follow";
  }
  const length = view.getUint32(offset + 4, true);
  const end = offset + RECORD_HEADER_BYTES + length;
  if (length === 0) return "a record without items";
  if (end > bytes.length) return `a record of ${length} bytes goes beyond the file's end`;
  const stored = view.getUint32(offset + 8, true);
  const found = recordChecksum(bytes, offset, end, salt);
  const hex = (crc: number): string => crc.toString(16).padStart(8, "0");
  return `a torn or damaged record: its checksum says ${hex(stored)}, its bytes give ${hex(found)}`;
}
