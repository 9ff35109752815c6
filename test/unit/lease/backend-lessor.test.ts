/** Leases: rows and attachments on every peer, the leader's clock, and both against a plain model. */
import { describe, expect, test } from "vitest";
import { MemoryBackend } from "../../../shared/backend/memory-backend.ts";
import type { BatchWriter } from "../../../shared/backend/backend.ts";
import { compareBytes, hexOf, textOf, utf8 } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import { Prng } from "../../../shared/base/prng.ts";
import { createLessor } from "../../../shared/lease/backend-lessor.ts";
import type { Lessor } from "../../../shared/lease/lessor.ts";

class Fixture {
  readonly backend: MemoryBackend;
  readonly lessor: Lessor;
  now = 1000;

  constructor(backend = new MemoryBackend()) {
    this.backend = backend;
    this.lessor = createLessor(backend);
  }

  apply<Result>(run: (writer: BatchWriter) => Result): Result {
    let result: Result | undefined;
    this.backend.apply(this.backend.visibleIndex + 1, (writer) => {
      result = run(writer);
    });
    return result as Result;
  }

  grant(id: bigint, ttlSeconds: number) {
    return this.apply((writer) => this.lessor.grant({ id, ttlSeconds }, writer, this.now));
  }

  revoke(id: bigint) {
    return this.apply((writer) => this.lessor.revoke(id, writer));
  }

  attach(key: string, previous: bigint, next: bigint): void {
    this.apply((writer) => this.lessor.reattach(utf8(key), previous, next, writer));
  }

  keys(id: bigint): string[] {
    return this.lessor.attachedKeys(id).map(textOf);
  }

  promote(extendMilliseconds = 0): void {
    this.lessor.promote({ now: this.now, extendMilliseconds });
  }

  expired(countMax = 100, retryMilliseconds = 1000): readonly bigint[] {
    return this.lessor.expired({ now: this.now, countMax, retryMilliseconds });
  }

  rows(): number {
    let rows = 0;
    this.backend.scan("lease", {}, () => {
      rows += 1;
      return true;
    });
    return rows;
  }
}

describe("leases on every peer", () => {
  test("a lease is granted once, looked up, and revoked once", () => {
    const leases = new Fixture();
    expect(leases.grant(7n, 60)).toBeUndefined();
    expect(leases.grant(7n, 5)).toEqual({ code: "leaseExist" });
    expect(leases.lessor.lookup(7n)).toMatchObject({ id: 7n, ttlSeconds: 60 });
    expect(leases.lessor.lookup(8n)).toBeUndefined();
    expect(leases.lessor.leaseCount).toBe(1);
    expect(leases.revoke(7n)).toEqual([]);
    expect(leases.revoke(7n)).toEqual({ code: "leaseNotFound" });
    expect(leases.lessor.leaseCount).toBe(0);
    expect(leases.rows()).toBe(0);
  });

  test("a revoke returns the attached keys in key order, and only this lease's", () => {
    const leases = new Fixture();
    leases.grant(1n, 10);
    leases.grant(2n, 10);
    for (const key of ["b", "a\0", "ab", "a"]) leases.attach(key, 0n, 1n);
    leases.attach("c", 0n, 2n);
    expect(leases.keys(1n)).toEqual(["a", "a\0", "ab", "b"]);
    const keys = leases.revoke(1n);
    expect(Array.isArray(keys) && keys.map(textOf)).toEqual(["a", "a\0", "ab", "b"]);
    expect(leases.keys(1n)).toEqual([]);
    expect(leases.keys(2n)).toEqual(["c"]);
    expect(leases.rows()).toBe(2);
  });

  test("a key moves between leases and leaves them", () => {
    const leases = new Fixture();
    leases.grant(1n, 10);
    leases.grant(2n, 10);
    leases.attach("k", 0n, 1n);
    leases.attach("k", 1n, 1n);
    expect(leases.keys(1n)).toEqual(["k"]);
    leases.attach("k", 1n, 2n);
    expect([leases.keys(1n), leases.keys(2n)]).toEqual([[], ["k"]]);
    leases.attach("k", 2n, 0n);
    expect(leases.keys(2n)).toEqual([]);
    expect(() => leases.attach("k", 0n, 3n)).toThrow("exists");
  });

  test("a grant and a revoke may meet in one apply with the keys between them", () => {
    const leases = new Fixture();
    const keys = leases.apply((writer) => {
      leases.lessor.grant({ id: 5n, ttlSeconds: 9 }, writer, 0);
      leases.lessor.reattach(utf8("k"), 0n, 5n, writer);
      return leases.lessor.revoke(5n, writer);
    });
    expect(Array.isArray(keys) && keys.map(textOf)).toEqual(["k"]);
    expect(leases.rows()).toBe(0);
  });

  test("ids are signed 64-bit; where the peer doesn't lead, the list goes by id", () => {
    const leases = new Fixture();
    const ids = [1n, -1n, 2n ** 63n - 1n, -(2n ** 63n), 256n, 255n];
    for (const id of ids) {
      leases.grant(id, 10);
      leases.attach(`key of ${id}`, 0n, id);
    }
    const again = new Fixture(leases.backend);
    const sorted = [-(2n ** 63n), -1n, 1n, 255n, 256n, 2n ** 63n - 1n];
    for (const fixture of [leases, again]) {
      expect(fixture.lessor.list().map((lease) => lease.id)).toEqual(sorted);
      for (const id of ids) expect(fixture.keys(id)).toEqual([`key of ${id}`]);
    }
  });

  test("leases and attachments outlive a restart, ttl of 9 000 000 000 included", () => {
    const leases = new Fixture();
    leases.grant(1n, LIMITS.leaseTtlSecondsMax);
    leases.grant(2n, 2);
    leases.attach("k", 0n, 2n);
    const again = new Fixture(leases.backend);
    expect(again.lessor.lookup(1n)).toMatchObject({ ttlSeconds: 9_000_000_000 });
    expect(again.keys(2n)).toEqual(["k"]);
    again.promote();
    expect(again.lessor.remaining(2n, again.now)).toBe(2000);
  });

  test("a reload takes what the backend holds now", async () => {
    const leases = new Fixture();
    leases.grant(1n, 10);
    leases.promote();
    const source = new Fixture();
    source.grant(2n, 20);
    const shadow = leases.backend.shadow();
    shadow.apply((writer) => {
      source.backend.scan("lease", {}, (key, value) => {
        writer.put("lease", key, value);
        return true;
      });
    });
    await shadow.install(9);
    leases.lessor.reload(leases.now);
    expect(leases.lessor.list().map((lease) => lease.id)).toEqual([2n]);
    expect(leases.lessor.remaining(2n, leases.now)).toBe(20_000);
  });
});

describe("the leader's clock", () => {
  test("only a leader renews, counts down and lets expire", () => {
    const leases = new Fixture();
    leases.grant(1n, 10);
    leases.now += 60_000;
    expect(leases.lessor.renew(1n, leases.now)).toBeUndefined();
    expect(leases.lessor.remaining(1n, leases.now)).toBeUndefined();
    expect(leases.expired()).toEqual([]);
    leases.promote();
    expect(leases.lessor.renew(1n, leases.now)).toBe(10);
    expect(leases.lessor.remaining(1n, leases.now)).toBe(10_000);
    leases.lessor.demote();
    leases.now += 60_000;
    expect(leases.expired()).toEqual([]);
    expect(leases.lessor.renew(1n, leases.now)).toBeUndefined();
  });

  test("a promotion starts every lease anew at its full time and the extension", () => {
    const leases = new Fixture();
    leases.grant(1n, 10);
    leases.promote();
    leases.now += 9000;
    leases.promote(1000);
    expect(leases.lessor.remaining(1n, leases.now)).toBe(11_000);
    leases.now += 10_999;
    expect(leases.expired()).toEqual([]);
    leases.now += 1;
    expect(leases.expired()).toEqual([1n]);
  });

  test("a renewal right after a promotion takes the extension back", () => {
    const leases = new Fixture();
    leases.grant(1n, 10);
    leases.promote(60_000);
    leases.now += 1;
    expect(leases.lessor.renew(1n, leases.now)).toBe(10);
    leases.now += 10_000;
    expect(leases.expired()).toEqual([1n]);
  });

  test("an expired lease isn't renewed, and is reported again after the retry time", () => {
    const leases = new Fixture();
    leases.promote();
    leases.grant(1n, 2);
    leases.now += 2000;
    expect(leases.lessor.renew(1n, leases.now)).toBeUndefined();
    expect(leases.lessor.remaining(1n, leases.now)).toBe(0);
    expect(leases.expired(10, 5000)).toEqual([1n]);
    leases.now += 4999;
    expect(leases.expired(10, 5000)).toEqual([]);
    expect(leases.lessor.remaining(1n, leases.now)).toBe(-4999);
    leases.now += 1;
    expect(leases.expired(10, 5000)).toEqual([1n]);
    leases.revoke(1n);
    leases.now += 5000;
    expect(leases.expired(10, 5000)).toEqual([]);
  });

  test("no more leases than asked for are reported, the others next", () => {
    const leases = new Fixture();
    leases.promote();
    for (let id = 1n; id <= 5n; id += 1n) leases.grant(id, 2);
    leases.now += 2000;
    const first = leases.expired(3);
    const second = leases.expired(3);
    expect(first.length).toBe(3);
    expect(new Set([...first, ...second]).size).toBe(5);
  });

  test("a leader lists the soonest expiry first", () => {
    const leases = new Fixture();
    leases.promote();
    leases.grant(1n, 30);
    leases.grant(2n, 10);
    leases.grant(3n, 20);
    expect(leases.lessor.list().map((lease) => lease.id)).toEqual([2n, 3n, 1n]);
    for (let round = 0; round < 2; round += 1) {
      leases.now += 9000;
      leases.lessor.renew(2n, leases.now);
    }
    expect(leases.lessor.list().map((lease) => lease.id)).toEqual([3n, 2n, 1n]);
  });

  test("a thousand leases promoted together don't expire together", () => {
    const leases = new Fixture();
    for (let id = 1n; id <= 2000n; id += 1n) leases.grant(id, 10);
    leases.promote();
    const perSecond: number[] = [];
    for (let second = 0; second < 14; second += 1) {
      perSecond.push(leases.expired(10_000, 1e9).length);
      leases.now += 1000;
    }
    expect(perSecond.slice(0, 10)).toEqual(Array.from({ length: 10 }, () => 0));
    expect(perSecond.slice(10)).toEqual([750, 750, 500, 0]);
  });

  test("fewer leases keep their own time", () => {
    const leases = new Fixture();
    for (let id = 1n; id <= 999n; id += 1n) leases.grant(id, 10);
    leases.promote();
    leases.now += 10_000;
    expect(leases.expired(10_000).length).toBe(999);
  });

  test("random grants, renewals, revokes and promotions agree with a model", () => {
    const seed = Number(process.env["SEED"] ?? 12);
    const replay = `replay: SEED=${seed} npx vitest run --project unit backend-lessor`;
    const prng = new Prng(seed);
    let leases = new Fixture();
    const model = new Map<
      bigint,
      { ttl: number; deadline: number; keys: Set<string>; retry: number }
    >();
    leases.promote();
    for (let step = 0; step < 8000; step += 1) {
      const id = BigInt(prng.between(-15, 15)) || 99n;
      const lease = model.get(id);
      const action = prng.below(100);
      if (action < 20) {
        const ttl = prng.between(1, 20);
        const refused = leases.grant(id, ttl) !== undefined;
        expect(refused, replay).toBe(lease !== undefined);
        const deadline = leases.now + ttl * 1000;
        if (!refused) model.set(id, { ttl, deadline, keys: new Set(), retry: 0 });
      } else if (action < 55) {
        const alive = lease !== undefined && lease.deadline > leases.now;
        expect(leases.lessor.renew(id, leases.now), replay).toBe(alive ? lease.ttl : undefined);
        if (alive) lease.deadline = leases.now + lease.ttl * 1000;
      } else if (action < 65) {
        const keys = leases.revoke(id);
        const expected = [...(lease?.keys ?? [])].map(utf8).sort(compareBytes).map(hexOf);
        if (lease === undefined) expect(keys).toEqual({ code: "leaseNotFound" });
        else expect(Array.isArray(keys) && keys.map(hexOf), replay).toEqual(expected);
        model.delete(id);
      } else if (action < 80 && lease !== undefined) {
        const key = `k${prng.below(40)}`;
        const owner = [...model].find(([, other]) => other.keys.has(key));
        const next = prng.chance(0.8) ? id : 0n;
        leases.attach(key, owner?.[0] ?? 0n, next);
        owner?.[1].keys.delete(key);
        if (next !== 0n) lease.keys.add(key);
      } else if (action === 80) {
        if (prng.chance(0.5))
          leases = Object.assign(new Fixture(leases.backend), { now: leases.now });
        const extendMilliseconds = prng.below(3000);
        leases.promote(extendMilliseconds);
        for (const other of model.values()) {
          other.deadline = leases.now + other.ttl * 1000 + extendMilliseconds;
          other.retry = 0;
        }
      } else {
        leases.now += prng.below(800);
        const expected = [...model]
          .filter(([, other]) => other.deadline <= leases.now && other.retry <= leases.now)
          .map(([other]) => other);
        const found = leases.expired(1000, 3000);
        expect(new Set(found), replay).toEqual(new Set(expected));
        for (const other of found) (model.get(other) ?? { retry: 0 }).retry = leases.now + 3000;
      }
      expect(leases.lessor.leaseCount).toBe(model.size);
    }
    for (const [id, { keys }] of model) expect(leases.keys(id).length, replay).toBe(keys.size);
  });
});
