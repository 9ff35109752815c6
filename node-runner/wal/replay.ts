/**
 * Reads a log's folder at start, as `layout.ts` says: hands every item of every durable record on,
 * in order, finds the end, and tells damage from a torn tail. Changes nothing on the disk.
 */
import type { Bytes } from "../../shared/base/bytes.ts";
import type { Files } from "../files/files.ts";
import type { Item, LogIdentity, SegmentStart } from "./layout.ts";
import {
  RECORD_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
  WAL_FORMAT,
  alignRecord,
  decodeSegmentHeader,
  sequenceOfName,
} from "./layout.ts";
import type { RecordHead } from "./record-reader.ts";
import {
  UnknownItemError,
  markerBehind,
  readItems,
  recordAt,
  recordBehind,
} from "./record-reader.ts";

/** The log can't be read up to its last durable record: the peer must not start with it. */
export class WalDamageError extends Error {
  override readonly name = "WalDamageError";
  readonly path: string;
  readonly offset: number;

  constructor(what: string, place: { path: string; offset: number }, options?: ErrorOptions) {
    super(
      `write-ahead log damaged: ${what} (file ${place.path}, offset ${place.offset}); restore the member from a ` +
        "backup, or remove it from the cluster and add it anew with an empty data directory",
      options,
    );
    this.path = place.path;
    this.offset = place.offset;
  }
}

/** The log is whole, but of another cluster, member or format. */
export class WalMismatchError extends Error {
  override readonly name = "WalMismatchError";
}

/** A segment that holds records. */
export interface FoundSegment {
  readonly path: string;
  readonly start: SegmentStart;
}

/** Where the log ends and the next record goes. */
export interface LogEnd {
  /** Empty when no record was ever durable. */
  readonly segments: readonly FoundSegment[];
  readonly salt: number | undefined;
  /** In the last segment; a multiple of 8. */
  readonly position: number;
  readonly previous: number;
  readonly ordinal: number;
  /** Segments whose first record was never finished: to be removed. */
  readonly unfinished: readonly string[];
}

interface Segment {
  readonly path: string;
  readonly bytes: Bytes;
}

export function replay(
  options: { files: Files; directory: string; identity: LogIdentity },
  visit: (item: Item, segment: FoundSegment) => void,
): LogEnd {
  const reader = new SegmentReader(options, visit);
  const paths = segmentPaths(options);
  for (const [place, path] of paths.entries()) {
    const segment = { path, bytes: readWhole(options.files, path) };
    if (!reader.read(segment)) return reader.end(paths.slice(place));
  }
  return reader.end([]);
}

function segmentPaths(options: { files: Files; directory: string }): readonly string[] {
  const { files, directory } = options;
  const names = files.list(directory).filter((name) => sequenceOfName(name) !== undefined);
  for (const [place, name] of names.entries()) {
    const expected = (sequenceOfName(names[0] as string) as number) + place;
    if (sequenceOfName(name) === expected) continue;
    const what = `the segment with sequence ${expected} is missing`;
    throw new WalDamageError(what, { path: `${directory}/${name}`, offset: 0 });
  }
  return names.map((name) => `${directory}/${name}`);
}

function readWhole(files: Files, path: string): Bytes {
  const file = files.open(path, { create: false });
  try {
    return file.read(0, file.size());
  } finally {
    file.close();
  }
}

class SegmentReader {
  readonly #files: Files;
  readonly #identity: LogIdentity;
  readonly #visit: (item: Item, segment: FoundSegment) => void;
  readonly #segments: FoundSegment[] = [];
  #salt: number | undefined;
  #previous = 0;
  #ordinal = 0;
  /** Where the last segment read stops, and what follows there. */
  #last: Segment | undefined;
  #position = 0;

  constructor(
    options: { files: Files; identity: LogIdentity },
    visit: (item: Item, segment: FoundSegment) => void,
  ) {
    this.#files = options.files;
    this.#identity = options.identity;
    this.#visit = visit;
  }

  /** Reads a segment's records; false when it has none that continues the log. */
  read(segment: Segment): boolean {
    const header = decodeSegmentHeader(segment.bytes);
    if (header === undefined) return false;
    const { salt, format } = header;
    if (format !== WAL_FORMAT) {
      const text = `${segment.path} has format ${format}, this version reads ${WAL_FORMAT}`;
      throw new WalMismatchError(`${text}: another version wrote it`);
    }
    if (this.#salt !== undefined && salt !== this.#salt) return false;
    let position = SEGMENT_HEADER_BYTES;
    let record = recordAt(segment.bytes, position, salt);
    if (record === undefined || !this.#fits(record)) return false;
    this.#salt = salt;
    this.#readFirst(segment, record);
    for (;;) {
      position = alignRecord(record.end);
      this.#previous = record.crc;
      this.#ordinal = record.ordinal;
      record = recordAt(segment.bytes, position, salt);
      if (record === undefined || !this.#fits(record)) break;
      this.#readRecord(segment, record, this.#segments.at(-1) as FoundSegment);
    }
    this.#last = segment;
    this.#position = position;
    return true;
  }

  /** The oldest segment's first record begins the count. */
  #fits(record: RecordHead): boolean {
    if (this.#salt === undefined) return true;
    return record.ordinal === this.#ordinal + 1 && record.previous === this.#previous;
  }

  #readFirst(segment: Segment, record: RecordHead): void {
    let found: FoundSegment | undefined;
    this.#decode(segment, record, (item) => {
      if (found === undefined) {
        if (item.kind !== "segment") throw new UnknownItemError("no segment item comes first");
        this.#checkIdentity(segment.path, item.start.identity);
        this.#checkName(segment.path, item.start.sequence);
        found = { path: segment.path, start: item.start };
        this.#segments.push(found);
      }
      this.#visit(item, found);
    });
  }

  #readRecord(segment: Segment, record: RecordHead, found: FoundSegment): void {
    this.#decode(segment, record, (item) => this.#visit(item, found));
  }

  #decode(segment: Segment, record: RecordHead, visit: (item: Item) => void): void {
    try {
      readItems(segment.bytes, record, (item) => visit(item));
    } catch (cause) {
      if (!(cause instanceof UnknownItemError)) throw cause;
      const text = `${segment.path}, offset ${record.start}: ${cause.message}; a newer version wrote it?`;
      throw new WalMismatchError(text, { cause });
    }
  }

  /** A file whose content is another segment's: something between is gone. */
  #checkName(path: string, sequence: number): void {
    const name = path.slice(path.lastIndexOf("/") + 1);
    if (sequenceOfName(name) === sequence) return;
    throw new WalDamageError(`the file holds segment ${sequence}`, { path, offset: 0 });
  }

  #checkIdentity(path: string, found: LogIdentity): void {
    const { clusterId, memberId } = this.#identity;
    if (found.clusterId === clusterId && found.memberId === memberId) return;
    const hex = (id: bigint): string => id.toString(16);
    throw new WalMismatchError(
      `${path} belongs to member ${hex(found.memberId)} of cluster ${hex(found.clusterId)}, not to member ` +
        `${hex(memberId)} of cluster ${hex(clusterId)}`,
    );
  }

  /**
   * Throws unless what follows the last fitting record can only be a write that never became
   * durable.
   */
  #assertEnd(rest: readonly string[]): void {
    if (rest.length > 1) throw this.#damage(rest, `${rest.length} later segments exist`);
    if (this.#last !== undefined) this.#assertNoRecord(rest, this.#last, this.#position);
    for (const path of rest) {
      const bytes = readWhole(this.#files, path);
      if (this.#salt !== undefined) this.#assertNoRecord(rest, { path, bytes }, 0);
      else if (hasSecondRecord(bytes)) throw this.#damage(rest, "there are records behind it");
    }
  }

  #assertNoRecord(rest: readonly string[], segment: Segment, from: number): void {
    const search = { from, salt: this.#salt as number, ordinal: this.#ordinal };
    const found = recordBehind(segment.bytes, search);
    if (found === undefined) return;
    throw this.#damage(rest, `record ${found.ordinal} stands at ${found.start} in ${segment.path}`);
  }

  #damage(rest: readonly string[], evidence: string): WalDamageError {
    const what = `record ${this.#ordinal + 1} is unreadable, yet ${evidence}`;
    if (this.#last === undefined)
      return new WalDamageError(what, { path: rest[0] ?? "", offset: 0 });
    return new WalDamageError(what, { path: this.#last.path, offset: this.#position });
  }

  /** The segments in `rest` hold nothing that continues the log. */
  end(rest: readonly string[]): LogEnd {
    this.#assertEnd(rest);
    return {
      segments: this.#segments,
      salt: this.#salt,
      position: this.#position,
      previous: this.#previous,
      ordinal: this.#ordinal,
      unfinished: rest,
    };
  }
}

/**
 * In a log whose only segment has no readable header, a second record's marker proves that the
 * first was durable.
 */
function hasSecondRecord(bytes: Bytes): boolean {
  return markerBehind(bytes, SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES) !== undefined;
}
