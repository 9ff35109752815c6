/**
 * One header field, judged once: the rules of RFC 9113 section 8.2 are applied when a field is
 * made, so a field that a client repeats through the dynamic table costs nothing to check again.
 */

/** What a field's name means to the server, or why the field makes its message malformed. */
export const KIND = {
  regular: 0,
  method: 1,
  scheme: 2,
  authority: 3,
  path: 4,
  contentLength: 5,
  host: 6,
  /** A name or value that no valid message has. */
  invalid: 7,
} as const;

export interface HeaderField {
  readonly name: string;
  /** Octets as Latin-1 characters. */
  readonly value: string;
  /** One of `KIND`. */
  readonly kind: number;
  /** Octets of name and value plus 32 (RFC 7541 section 4.1). */
  readonly size: number;
}

const KINDS: ReadonlyMap<string, number> = new Map([
  [":method", KIND.method],
  [":scheme", KIND.scheme],
  [":authority", KIND.authority],
  [":path", KIND.path],
  ["content-length", KIND.contentLength],
  ["host", KIND.host],
  // Connection-specific fields (section 8.2.2).
  ["connection", KIND.invalid],
  ["proxy-connection", KIND.invalid],
  ["keep-alive", KIND.invalid],
  ["transfer-encoding", KIND.invalid],
  ["upgrade", KIND.invalid],
]);

const NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
const METHOD = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const DIGITS = /^[0-9]{1,15}$/;

export function makeField(name: string, value: string): HeaderField {
  return { name, value, kind: kindOf(name, value), size: name.length + value.length + 32 };
}

function kindOf(name: string, value: string): number {
  if (!isFieldValue(value)) return KIND.invalid;
  const kind = KINDS.get(name);
  switch (kind) {
    case undefined:
      if (name === "te") return value === "trailers" ? KIND.regular : KIND.invalid;
      return NAME.test(name) ? KIND.regular : KIND.invalid;
    case KIND.method:
      return METHOD.test(value) ? kind : KIND.invalid;
    case KIND.path:
    case KIND.authority:
      return isVisible(value) ? kind : KIND.invalid;
    case KIND.contentLength:
      return DIGITS.test(value) ? kind : KIND.invalid;
    default:
      return kind;
  }
}

/** No control characters but tab, and no white space at either end (section 8.2.1). */
function isFieldValue(value: string): boolean {
  for (let at = 0; at < value.length; at += 1) {
    const code = value.charCodeAt(at);
    if ((code < 0x20 && code !== 0x09) || code === 0x7f) return false;
  }
  return !isBlank(value.charCodeAt(0)) && !isBlank(value.charCodeAt(value.length - 1));
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/**
 * No blanks: they would let a target split when somebody writes it into an HTTP/1.1 request line.
 */
function isVisible(value: string): boolean {
  return !value.includes(" ") && !value.includes("\t");
}
