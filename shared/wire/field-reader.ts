/** Reads a decoded CBOR array field by field; each method throws `WireError` when the field is not of its kind. */
import type { Bytes } from "../base/bytes.ts";
import { bytesOf, countOf, int64Of, listOf, textOfField, uint64Of } from "./cbor-fields.ts";
import type { Fields } from "./cbor-fields.ts";
import { WireError } from "./cbor.ts";

export class FieldReader {
  readonly #fields: Fields;
  readonly #name: string;
  #next = 0;

  /** `name`: what the array is, for errors. */
  constructor(value: unknown, name: string) {
    this.#fields = listOf(value, name);
    this.#name = name;
  }

  /** Safe integer >= 0. */
  count(): number {
    return countOf(this.value(), this.#name);
  }

  /** Unsigned 64-bit. */
  id(): bigint {
    return uint64Of(this.value(), this.#name);
  }

  /** Signed 64-bit, as lease ids are. */
  int64(): bigint {
    return int64Of(this.value(), this.#name);
  }

  /** A finite number, or undefined for null. */
  optionalNumber(): number | undefined {
    const value = this.value();
    if (value === null) return undefined;
    if (typeof value === "number" && Number.isFinite(value)) return value;
    throw new WireError(`${this.#name}: field ${this.#next - 1} is no number`);
  }

  flag(): boolean {
    const value = this.value();
    if (typeof value === "boolean") return value;
    throw new WireError(`${this.#name}: field ${this.#next - 1} is no flag`);
  }

  bytes(): Bytes {
    return bytesOf(this.value(), this.#name);
  }

  text(): string {
    return textOfField(this.value(), this.#name);
  }

  list<Item>(read: (value: unknown) => Item): Item[] {
    return listOf(this.value(), this.#name).map((item) => read(item));
  }

  value(): unknown {
    if (this.#next >= this.#fields.length) throw new WireError(`${this.#name}: too few fields`);
    this.#next += 1;
    return this.#fields[this.#next - 1];
  }

  get atEnd(): boolean {
    return this.#next === this.#fields.length;
  }

  /** No field may follow. */
  end(): void {
    if (!this.atEnd) {
      throw new WireError(`${this.#name}: too many fields`);
    }
  }
}
