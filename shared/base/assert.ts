/**
 * Assertions for broken invariants. They stay on in production: a peer that has lost an invariant
 * stops rather than answers wrongly. Expected refusals are values, I/O faults are `Error`s with a
 * cause; neither comes through here.
 */

/** A broken invariant: a defect of this program, never of its input. */
export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/** Throws `AssertionError` unless `condition` holds. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Marks a place that no input can reach. */
export function unreachable(message: string): never {
  throw new AssertionError(message);
}

/**
 * Asserts that `value` is a safe integer >= 0, as indexes, terms and revisions are, and returns it.
 */
export function assertCount(value: number, name: string): number {
  assert(Number.isSafeInteger(value) && value >= 0, `${name} is no safe integer: ${value}`);
  return value;
}
