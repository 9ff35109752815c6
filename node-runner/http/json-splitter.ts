/**
 * Splits a stream of bytes into JSON values that follow each other, with or without white space
 * between. It only finds where each value ends; whether it is well-formed is for the parser.
 */
import { RpcError } from "../../shared/api/errors.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPENERS: ReadonlySet<number> = new Set([0x7b, 0x5b]);
const CLOSERS: ReadonlySet<number> = new Set([0x7d, 0x5d]);
const SPACES: ReadonlySet<number> = new Set([0x20, 0x09, 0x0a, 0x0d]);

export class JsonSplitter {
  readonly #bytesMax: number;
  #pending: Buffer = Buffer.alloc(0);
  /** Bytes of `#pending` that have been looked at, and the state there. */
  #position = 0;
  #depth = 0;
  #isText = false;
  #isEscaped = false;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /**
   * The values that are complete by now. Throws when one is too long or no object begins where one
   * should.
   */
  push(chunk: Buffer): readonly string[] {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const values: string[] = [];
    let start = 0;
    for (; this.#position < this.#pending.length; this.#position += 1) {
      const byte = this.#pending[this.#position] as number;
      if (this.#depth === 0) {
        if (SPACES.has(byte)) start = this.#position + 1;
        else if (!OPENERS.has(byte))
          throw new RpcError("invalidArgument", "a JSON object is expected");
      }
      if (this.#ends(byte)) {
        values.push(this.#pending.toString("utf8", start, this.#position + 1));
        start = this.#position + 1;
      }
    }
    this.#pending = this.#pending.subarray(start);
    this.#position -= start;
    if (this.#pending.length > this.#bytesMax) {
      throw new RpcError("resourceExhausted", `a request is longer than ${this.#bytesMax} bytes`);
    }
    return values;
  }

  /** The stream is over: a value that is not complete is an error. */
  end(): readonly string[] {
    if (this.#depth > 0) throw new RpcError("invalidArgument", "the JSON ends too early");
    return [];
  }

  /** Takes one byte; true when a value ends with it. */
  #ends(byte: number): boolean {
    if (this.#isText) {
      if (this.#isEscaped) this.#isEscaped = false;
      else if (byte === BACKSLASH) this.#isEscaped = true;
      else if (byte === QUOTE) this.#isText = false;
      return false;
    }
    if (byte === QUOTE) this.#isText = true;
    else if (OPENERS.has(byte)) this.#depth += 1;
    else if (CLOSERS.has(byte)) {
      this.#depth -= 1;
      return this.#depth === 0;
    }
    return false;
  }
}
