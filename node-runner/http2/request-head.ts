/**
 * The header list of a request, or of its trailers, as the decoder delivers it; judges whether the
 * message is well-formed (RFC 9113 sections 8.1 to 8.3). Bounded: past the limit fields are
 * counted but no longer kept.
 */
import { LIMITS } from "../../shared/base/limits.ts";
import { KIND, type HeaderField } from "./header-field.ts";

export class RequestHead {
  method = "";
  scheme = "";
  authority = "";
  path = "";
  /** All fields but pseudo-headers, in the client's order. */
  readonly fields: HeaderField[] = [];
  /** Octets that the body must have, or -1. */
  contentLength = -1;
  /** Counted as RFC 9113 section 10.5.1 says. */
  bytes = 0;
  #host: string | undefined;
  #seen = 0;
  #malformed = false;

  add(field: HeaderField): void {
    this.bytes += field.size;
    if (this.bytes > LIMITS.http2HeaderListBytesMax) return;
    switch (field.kind) {
      case KIND.regular:
        break;
      case KIND.method:
        this.method = this.#pseudo(field);
        return;
      case KIND.scheme:
        this.scheme = this.#pseudo(field);
        return;
      case KIND.authority:
        this.authority = this.#pseudo(field);
        return;
      case KIND.path:
        this.path = this.#pseudo(field);
        return;
      case KIND.contentLength:
        if (this.contentLength >= 0 && this.contentLength !== Number(field.value)) {
          this.#malformed = true;
        }
        this.contentLength = Number(field.value);
        break;
      case KIND.host:
        if (this.#host !== undefined) this.#malformed = true;
        this.#host = field.value;
        break;
      default:
        this.#malformed = true;
        return;
    }
    this.fields.push(field);
  }

  get isTooLarge(): boolean {
    return this.bytes > LIMITS.http2HeaderListBytesMax;
  }

  /** True when the whole list makes a request. */
  isRequest(): boolean {
    if (this.#malformed || this.method === "") return false;
    if (this.#host !== undefined) {
      if (this.authority === "") this.authority = this.#host;
      else if (this.authority !== this.#host) return false;
    }
    if (this.method === "CONNECT") {
      return this.authority !== "" && this.path === "" && this.scheme === "";
    }
    if (this.scheme === "") return false;
    return this.path.charCodeAt(0) === 0x2f || (this.path === "*" && this.method === "OPTIONS");
  }

  /** True when the whole list makes trailers: they have no pseudo-headers. */
  isTrailers(): boolean {
    return !this.#malformed && this.#seen === 0;
  }

  /**
   * The field's value; several are joined as their name demands (RFC 9110 section 5.3, RFC 9113
   * section 8.2.3).
   */
  header(name: string): string | undefined {
    let value: string | undefined;
    for (const field of this.fields) {
      if (field.name !== name) continue;
      if (value === undefined) value = field.value;
      else value += (name === "cookie" ? "; " : ", ") + field.value;
    }
    return value;
  }

  /** Pseudo-headers come once each and before all other fields; none is empty but `:authority`. */
  #pseudo(field: HeaderField): string {
    const bit = 1 << field.kind;
    if ((this.#seen & bit) !== 0 || this.fields.length > 0) this.#malformed = true;
    if (field.value === "" && field.kind !== KIND.authority) this.#malformed = true;
    this.#seen |= bit;
    return field.value;
  }
}
