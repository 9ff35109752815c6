/**
 * A link over POST: one batch in, one out, once every call of it is answered. Each exchange is a
 * session of its own: it begins with hello and has no push.
 */
import type { Bytes } from "../base/bytes.ts";
import { WireError } from "../wire/cbor.ts";
import { LINK_CLOSE, serveLink } from "./link-service.ts";
import type { LinkOptions, LinkSession } from "./link-service.ts";
import type { Services } from "./services.ts";

export interface LinkExchange {
  /** The batches of the answer, in order; rejects with `WireError` when the request breaks the protocol. */
  readonly answer: Promise<readonly Bytes[]>;
  /** The asker went away: its calls are cancelled. */
  cancel(): void;
}

export function exchangeLink(
  services: Services,
  request: Bytes,
  options: Omit<LinkOptions, "push"> & { defer(callback: () => void): void },
): LinkExchange {
  const batches: Bytes[] = [];
  let session: LinkSession | undefined;
  const answer = new Promise<readonly Bytes[]>((resolve, reject) => {
    session = serveLink(
      services,
      {
        send(batch) {
          batches.push(batch);
          if (session?.open === true && session.callsUnderWay === 0) resolve(batches);
          return true;
        },
        close(code, reason) {
          if (code === LINK_CLOSE.protocolError) reject(new WireError(reason));
          else resolve(batches);
        },
        defer: (callback) => options.defer(callback),
      },
      { ...options, push: false },
    );
    session.receive(request);
    options.defer(() => {
      if (session?.open === true && session.callsUnderWay === 0 && batches.length === 0) {
        reject(new WireError("a link begins with hello"));
      }
    });
  });
  return { answer, cancel: () => session?.closed() };
}
