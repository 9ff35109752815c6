/** Where the client's peers are: a ring of base URLs, of which one is current until it fails. */
import { RpcError } from "../api/errors.ts";

export class Endpoints {
  readonly #urls: readonly string[];
  #current = 0;

  /** `urls`: http, https, ws or wss; a path is kept, `/link` is added. */
  constructor(urls: readonly string[]) {
    if (urls.length === 0) {
      throw new RpcError("invalidArgument", "name one endpoint at least");
    }
    for (const url of urls) {
      if (!/^(http|ws)s?:\/\/[^/?#\s]+[^?#\s]*$/.test(url)) {
        const text = `endpoint ${JSON.stringify(url)} is no URL of the form http://host:port`;
        throw new RpcError("invalidArgument", text);
      }
    }
    this.#urls = urls.map((url) => url.replace(/\/+$/, ""));
  }

  get count(): number {
    return this.#urls.length;
  }

  get current(): string {
    return this.#urls[this.#current] as string;
  }

  /** `failed` gives way to the next one, unless another call has seen to that already. */
  leave(failed: string): void {
    if (failed !== this.current) return;
    this.#current = (this.#current + 1) % this.#urls.length;
  }
}

export function socketUrl(base: string): string {
  return `${base.replace(/^http/, "ws")}/link`;
}

export function postUrl(base: string): string {
  return `${base.replace(/^ws/, "http")}/link`;
}
