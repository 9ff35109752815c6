/**
 * Where a request comes from, as a hint for where the Durable Object that serves it should be: an object stays where
 * it was first made, so each part of the world has objects of its own.
 */

/** Undefined: it isn't known. */
export function locationHintOf(request: Request): string | undefined {
  const { continent } = (request as { cf?: { continent?: string } }).cf ?? {};
  return continent === undefined ? undefined : LOCATION_HINTS[continent];
}

/** Cloudflare's hints, by continent. */
const LOCATION_HINTS: Readonly<Record<string, string>> = {
  AF: "afr",
  AS: "apac",
  EU: "weur",
  NA: "enam",
  OC: "oc",
  SA: "sam",
};
