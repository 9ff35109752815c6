/**
 * HPACK's tables (RFC 7541 section 2.3 and appendix A): the static one, and a dynamic one bounded
 * in octets.
 */
import { makeField, type HeaderField } from "./header-field.ts";

// oxfmt-ignore
const STATIC: readonly (readonly [name: string, value: string])[] = [
  [":authority", ""], [":method", "GET"], [":method", "POST"], [":path", "/"], [":path", "/index.html"],
  [":scheme", "http"], [":scheme", "https"], [":status", "200"], [":status", "204"], [":status", "206"],
  [":status", "304"], [":status", "400"], [":status", "404"], [":status", "500"], ["accept-charset", ""],
  ["accept-encoding", "gzip, deflate"], ["accept-language", ""], ["accept-ranges", ""], ["accept", ""],
  ["access-control-allow-origin", ""], ["age", ""], ["allow", ""], ["authorization", ""],
  ["cache-control", ""], ["content-disposition", ""], ["content-encoding", ""], ["content-language", ""],
  ["content-length", ""], ["content-location", ""], ["content-range", ""], ["content-type", ""],
  ["cookie", ""], ["date", ""], ["etag", ""], ["expect", ""], ["expires", ""], ["from", ""], ["host", ""],
  ["if-match", ""], ["if-modified-since", ""], ["if-none-match", ""], ["if-range", ""],
  ["if-unmodified-since", ""], ["last-modified", ""], ["link", ""], ["location", ""],
  ["max-forwards", ""], ["proxy-authenticate", ""], ["proxy-authorization", ""], ["range", ""],
  ["referer", ""], ["refresh", ""], ["retry-after", ""], ["server", ""], ["set-cookie", ""],
  ["strict-transport-security", ""], ["transfer-encoding", ""], ["user-agent", ""], ["vary", ""],
  ["via", ""], ["www-authenticate", ""],
];

/** The static table's entries; place 0 holds index 1. */
export const STATIC_FIELDS: readonly HeaderField[] = STATIC.map(([name, value]) =>
  makeField(name, value),
);
export const STATIC_COUNT = STATIC_FIELDS.length;

/**
 * Index of the first static entry with this name, and of the one with this name and value
 * (`name\0value`).
 */
export const STATIC_NAMES: ReadonlyMap<string, number> = new Map(
  [...STATIC.entries()].reverse().map(([place, [name]]) => [name, place + 1]),
);
export const STATIC_PAIRS: ReadonlyMap<string, number> = new Map(
  STATIC.map(([name, value], place) => [`${name}\0${value}`, place + 1]),
);

/** Places that eviction has freed at the array's front before it is cut. */
const STALE_MAX = 64;

/** The decoder's dynamic table: first in, first out; the newest entry has the lowest index. */
export class DynamicTable {
  /** Entries from the oldest to the newest; those below `#first` are evicted. */
  #entries: HeaderField[] = [];
  #first = 0;
  #bytes = 0;
  #bytesMax: number;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get count(): number {
    return this.#entries.length - this.#first;
  }

  /** The entry `age` insertions before the newest (0 = the newest), if it is still there. */
  at(age: number): HeaderField | undefined {
    const place = this.#entries.length - 1 - age;
    return place < this.#first ? undefined : this.#entries[place];
  }

  /**
   * Inserts after evicting; an entry above the bound empties the table and is not kept (section
   * 4.4).
   */
  insert(field: HeaderField): void {
    this.#evictTo(this.#bytesMax - field.size);
    if (field.size > this.#bytesMax) return;
    this.#entries.push(field);
    this.#bytes += field.size;
  }

  resize(bytesMax: number): void {
    this.#bytesMax = bytesMax;
    this.#evictTo(bytesMax);
  }

  #evictTo(bytes: number): void {
    while (this.#bytes > bytes && this.#first < this.#entries.length) {
      this.#bytes -= (this.#entries[this.#first] as HeaderField).size;
      this.#first += 1;
    }
    if (this.#first === this.#entries.length || this.#first > STALE_MAX) {
      this.#entries = this.#entries.slice(this.#first);
      this.#first = 0;
    }
  }
}
