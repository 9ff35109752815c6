/**
 * CRC-32C (Castagnoli polynomial 0x1EDC6F41, reflected; RFC 3720 section 12.1), the checksum of the
 * write-ahead log, of snapshot chunks and of HashKV. Slicing by eight: one pass reads eight bytes a
 * step.
 */
import type { Bytes } from "./bytes.ts";

const POLYNOMIAL = 0x82f63b78;
const TABLES = makeTables();

function makeTables(): readonly Uint32Array[] {
  const first = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte += 1) {
    let value = byte;
    for (let bit = 0; bit < 8; bit += 1) {
      value = value & 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
    }
    first[byte] = value;
  }
  const tables = [first];
  for (let slice = 1; slice < 8; slice += 1) {
    const previous = tables[slice - 1] as Uint32Array;
    tables.push(previous.map((value) => (value >>> 8) ^ (first[value & 0xff] as number)));
  }
  return tables;
}

const [T0, T1, T2, T3, T4, T5, T6, T7] = TABLES as [
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
];

/**
 * The checksum of `bytes[start, end)`, as an unsigned 32-bit number; `previous` continues the
 * checksum of what came before, so that crc32c(b, { previous: crc32c(a) }) is that of a followed by
 * b.
 */
export function crc32c(
  bytes: Bytes,
  options: { previous?: number; start?: number; end?: number } = {},
): number {
  const end = options.end ?? bytes.length;
  let position = options.start ?? 0;
  let crc = ~(options.previous ?? 0) >>> 0;
  for (; position + 8 <= end; position += 8) {
    const b = bytes as { [at: number]: number };
    crc ^=
      (b[position] as number) |
      ((b[position + 1] as number) << 8) |
      ((b[position + 2] as number) << 16) |
      ((b[position + 3] as number) << 24);
    crc =
      (T7[crc & 0xff] as number) ^
      (T6[(crc >>> 8) & 0xff] as number) ^
      (T5[(crc >>> 16) & 0xff] as number) ^
      (T4[crc >>> 24] as number) ^
      (T3[b[position + 4] as number] as number) ^
      (T2[b[position + 5] as number] as number) ^
      (T1[b[position + 6] as number] as number) ^
      (T0[b[position + 7] as number] as number);
  }
  for (; position < end; position += 1) {
    crc = (crc >>> 8) ^ (T0[(crc ^ (bytes[position] as number)) & 0xff] as number);
  }
  return ~crc >>> 0;
}
