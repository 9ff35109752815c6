/** A watch as tests ask for it: of one key, from now on, without options, but for what they name. */
import { EMPTY } from "../../shared/base/bytes.ts";
import type { WatchCreate } from "../../shared/peer/services.ts";

export function watchRequest(
  options: Partial<WatchCreate> & Pick<WatchCreate, "key">,
): WatchCreate {
  return {
    rangeEnd: EMPTY,
    startRevision: 0,
    progressNotify: false,
    noPut: false,
    noDelete: false,
    previousKv: false,
    watchId: 0n,
    fragment: false,
    ...options,
  };
}
