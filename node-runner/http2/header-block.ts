/**
 * A header block on its way: the fragments of HEADERS and its CONTINUATION frames, bounded in
 * octets and in frames.
 */
import { LIMITS } from "../../shared/base/limits.ts";

export class HeaderBlock {
  readonly id: number;
  readonly endsStream: boolean;
  readonly #parts: Buffer[] = [];
  #bytes = 0;

  constructor(id: number, endsStream: boolean) {
    this.id = id;
    this.endsStream = endsStream;
  }

  /** Adds a copy of `source[start, end)`. False: the block exceeds its bounds. */
  add(source: Buffer, start: number, end: number): boolean {
    this.#bytes += end - start;
    if (this.#bytes > LIMITS.http2HeaderBlockBytesMax) return false;
    if (this.#parts.length > LIMITS.http2ContinuationsMax) return false;
    this.#parts.push(Buffer.from(source.subarray(start, end)));
    return true;
  }

  join(): Buffer {
    return Buffer.concat(this.#parts, this.#bytes);
  }
}
