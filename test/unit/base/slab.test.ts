/** base/slab: cuts never overlap, whatever their lengths. */
import { expect, test } from "vitest";
import { equalBytes } from "../../../shared/base/bytes.ts";
import { Prng } from "../../../shared/base/prng.ts";
import { CUT_BYTES_MAX, Slab } from "../../../shared/base/slab.ts";

test("arrays of random lengths keep their own bytes", () => {
  const seed = Number(process.env["SEED"] ?? 5);
  const prng = new Prng(seed);
  const slab = new Slab();
  const lengths = Array.from({ length: 300 }, () =>
    prng.pick([0, 1, prng.below(400), CUT_BYTES_MAX, CUT_BYTES_MAX + 1]),
  );
  const cuts = lengths.map((length, at) => slab.copyOf(new Uint8Array(length).fill(at)));
  for (const [at, cut] of cuts.entries()) {
    const expected = new Uint8Array(lengths[at] as number).fill(at);
    expect(equalBytes(cut, expected), `cut ${at}, SEED=${seed}`).toBe(true);
  }
});
