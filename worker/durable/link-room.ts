/**
 * What a Durable Object holds for its links together. Each link is bounded by itself, but thousands of them, of which
 * each holds one large event, would be more than an isolate has. So while too much waits, in the links' outboxes or
 * unsent in the runtime, watches take nothing: they lag, and are served from history, some after the other. Where it
 * stays so, links that have taken nothing meanwhile are ended, so that the others go on.
 */
import { LIMITS } from "../../shared/base/limits.ts";

export interface RoomLink {
  /** Bytes that it holds and that have not left. */
  unsentBytes(): number;
  /** There is room again. */
  drained(): void;
  /** It doesn't read, and holds what others need. */
  end(): void;
}

/** How often a crowded room is looked at again. */
const LOOK_MILLISECONDS = 10;
/** Looks in a row that find no room, after which links are ended: 5 seconds and more. */
const LOOKS_MAX = 500;

export class LinkRoom {
  readonly #links = new Set<RoomLink>();
  /** Those that were refused. */
  #waiting = new Set<RoomLink>();
  /** At most so much is held: what was added since the last look has not been looked for. */
  #heldBytes = 0;
  #looking = false;
  readonly #looksMax: number;
  /** Looks in a row that found no room, and what links hold that have taken nothing since the first. */
  #looks = 0;
  #stuck = new Map<RoomLink, number>();

  /** `looksMax`: tests have fewer. */
  constructor(looksMax = LOOKS_MAX) {
    this.#looksMax = looksMax;
  }

  enter(link: RoomLink): void {
    this.#links.add(link);
  }

  leave(link: RoomLink): void {
    this.#links.delete(link);
    this.#waiting.delete(link);
  }

  add(bytes: number): void {
    this.#heldBytes += bytes;
  }

  /** Whether there is none for this link just now; then it is told once there is. */
  isCrowdedFor(link: RoomLink): boolean {
    if (this.#heldBytes < LIMITS.durableLinksBytesMax) return false;
    this.#waiting.add(link);
    this.#lookLater(0);
    return true;
  }

  #lookLater(milliseconds: number): void {
    if (this.#looking) return;
    this.#looking = true;
    setTimeout(() => {
      this.#looking = false;
      this.#look();
    }, milliseconds);
  }

  #look(): void {
    this.#heldBytes = 0;
    const held = new Map<RoomLink, number>();
    for (const link of this.#links) {
      const bytes = link.unsentBytes();
      this.#heldBytes += bytes;
      if (bytes > 0) held.set(link, bytes);
    }
    if (this.#heldBytes > LIMITS.durableLinksBytesMax / 2) {
      this.#stillCrowded(held);
      this.#lookLater(LOOK_MILLISECONDS);
      return;
    }
    this.#looks = 0;
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const link of waiting) link.drained();
  }

  #stillCrowded(held: Map<RoomLink, number>): void {
    if (this.#looks === 0) this.#stuck = held;
    for (const [link, before] of this.#stuck) {
      const bytes = held.get(link) ?? 0;
      if (bytes < before) this.#stuck.delete(link);
      else this.#stuck.set(link, bytes);
    }
    this.#looks += 1;
    if (this.#looks <= this.#looksMax) return;
    this.#looks = 0;
    for (const link of this.#stuck.keys()) link.end();
  }
}
