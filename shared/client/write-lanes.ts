/**
 * Identities for writes, so that one whose answer was lost may be sent again and applies once
 * (`shared/peer/state/write-table.ts` has the peers' side). The peers remember the newest write of
 * each client id, so an id has one write under way at a time: a lane. Lanes are reused, and there
 * are as many as writes were ever under way at once.
 */
import type { Bytes } from "../base/bytes.ts";
import * as LIMITS from "../base/link-limits.ts";
import type { WriteIdentity } from "../wire/command.ts";

interface Lane {
  readonly client: Bytes;
  sequence: number;
}

const CLIENT_BYTES = 12;

export class WriteLanes {
  readonly #randomBytes: (count: number) => Bytes;
  readonly #free: Lane[] = [];
  #floor: number | undefined;

  constructor(randomBytes: (count: number) => Bytes) {
    this.#randomBytes = randomBytes;
  }

  /** A peer has applied the log up to `index`: writes that begin from now on come after it. */
  heard(index: number): void {
    this.#floor = Math.max(this.#floor ?? 0, index);
  }

  /** Takes a lane for one write; undefined while no peer was heard. Must be given back by `end`. */
  begin(): WriteIdentity | undefined {
    if (this.#floor === undefined) return undefined;
    const lane = this.#free.pop() ?? { client: this.#randomBytes(CLIENT_BYTES), sequence: 0 };
    return { client: lane.client, sequence: lane.sequence + 1, floor: this.#floor };
  }

  /** The write is over for its caller. If it is still under way, the lane's next one ends it. */
  end({ client, sequence }: WriteIdentity): void {
    if (this.#free.length < LIMITS.clientLanesMax) this.#free.push({ client, sequence });
  }
}
