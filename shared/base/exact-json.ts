/**
 * JSON whose whole numbers keep all their digits. Go's clients write 64-bit ids as plain numbers, which
 * JavaScript would round: those past the safe range come as strings of digits, which is what protobuf's
 * JSON allows in their place.
 */

/** Any number that long may be unsafe; hardly any text without one looks like this. */
const MAY_BE_UNSAFE = /\d{16}/;
const WHOLE = /^-?\d+$/;

/** As `JSON.parse`. Throws `SyntaxError`. */
export function parseExactJson(text: string): unknown {
  return MAY_BE_UNSAFE.test(text) ? JSON.parse(text, exact) : JSON.parse(text);
}

function exact(_key: string, value: unknown, context?: { readonly source?: string }): unknown {
  if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
  const source = context?.source ?? "";
  return WHOLE.test(source) ? source : value;
}
