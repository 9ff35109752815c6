/** A replica's door to the world, beside its backend and its link: time, chance and reports. */
import type { Host } from "../peer/host.ts";

export interface ReplicaHost extends Pick<Host, "schedule" | "defer" | "report"> {
  /** Milliseconds of a clock whose zero means nothing. It may step back: what was known of age is void then. */
  now(): number;
  /** In [0, 1): spreads new attempts. */
  random(): number;
}

/** What becomes of a replica's timing; tests shorten it. */
export interface ReplicaTiming {
  /** Silence on the link after which the source is asked how far it is, and after which it is left. */
  readonly askMilliseconds: number;
  readonly silenceMillisecondsMax: number;
  /** How often a watermark that grows without events is noted, so that a restart begins near it. */
  readonly noteMilliseconds: number;
}

export const REPLICA_TIMING: ReplicaTiming = {
  askMilliseconds: 5000,
  silenceMillisecondsMax: 15_000,
  noteMilliseconds: 30_000,
};
