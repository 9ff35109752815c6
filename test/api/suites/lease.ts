/** Lease: section 1.4 of etcd's semantics. */
import { expect } from "vitest";
import { LIMITS } from "../../../shared/base/limits.ts";
import { expectRefused, headerOf, revisionOf, type ApiSuite, type Case } from "../api-suite.ts";

const ABSENT = 0x6fff_0000_1111n;

export const lease: ApiSuite = (test, options) => {
  test("lease: grant picks a positive id and changes no revision", async (c) => {
    const before = await c.revision();
    const granted = await c.client.leaseGrant({ TTL: 60n });
    c.later(() => c.client.leaseRevoke(granted.ID));
    expect(granted.ID > 0n).toBe(true);
    expect([granted.TTL, granted.error]).toEqual([60n, ""]);
    expect(revisionOf(granted)).toBe(before);
    expect((await c.client.leaseTimeToLive({ ID: granted.ID })).grantedTTL).toBe(60n);
  });

  test("lease: a chosen id is kept, and refused while it is in use", async (c) => {
    const ID = 0x1234_5678_9abc_def0n;
    const granted = await c.client.leaseGrant({ TTL: 60n, ID });
    expect(granted.ID).toBe(ID);
    await expectRefused(c.client.leaseGrant({ TTL: 60n, ID }), "leaseExist");
    await c.client.leaseRevoke(ID);
    expect((await c.client.leaseGrant({ TTL: 60n, ID })).ID).toBe(ID);
    await c.client.leaseRevoke(ID);
  });

  test("lease: a TTL below the least is raised to it, zero and less included", async (c) => {
    for (const TTL of [1n, 0n, -5n]) {
      const granted = await c.client.leaseGrant({ TTL });
      expect(granted.TTL).toBe(2n);
      await c.client.leaseRevoke(granted.ID);
    }
  });

  test("lease: a TTL above the most is refused, the most itself is not", async (c) => {
    const most = BigInt(LIMITS.leaseTtlSecondsMax);
    await expectRefused(c.client.leaseGrant({ TTL: most + 1n }), "leaseTtlTooLarge");
    const granted = await c.client.leaseGrant({ TTL: most });
    expect(granted.TTL).toBe(most);
    await c.client.leaseRevoke(granted.ID);
  });

  test("lease: revoke deletes its keys in one revision, in key order", async (c) => {
    const ID = await c.grant();
    for (const name of "cab") await c.put(name, "1", { lease: ID });
    await c.put("d", "1");
    const before = await c.revision();
    expect(revisionOf(await c.client.leaseRevoke(ID))).toBe(before + 1n);
    expect(c.names(await c.list())).toEqual(["d"]);
    await expectRefused(c.client.leaseRevoke(ID), "leaseNotFound");
  });

  test("lease: revoke without keys changes no revision; an unknown lease is refused", async (c) => {
    const before = await c.revision();
    expect(revisionOf(await c.client.leaseRevoke(await c.grant()))).toBe(before);
    await expectRefused(c.client.leaseRevoke(ABSENT), "leaseNotFound");
    await expectRefused(c.client.leaseRevoke(0n), "leaseNotFound");
  });

  test("lease: time to live shows granted and remaining seconds, keys when asked", async (c) => {
    const ID = await c.grant(100);
    await c.put("a", "1", { lease: ID });
    await c.put("b", "1", { lease: ID });
    const plain = await c.client.leaseTimeToLive({ ID });
    expect([plain.ID, plain.grantedTTL, plain.keys]).toEqual([ID, 100n, []]);
    expect(plain.TTL <= 100n && plain.TTL >= 90n).toBe(true);
    const withKeys = await c.client.leaseTimeToLive({ ID, keys: true });
    expect(withKeys.keys.map((key) => c.nameOf(key)).sort()).toEqual(["a", "b"]);
  });

  test("lease: time to live of an unknown lease is -1 without an error", async (c) => {
    const answer = await c.client.leaseTimeToLive({ ID: ABSENT, keys: true });
    expect(answer).toMatchObject({ ID: ABSENT, TTL: -1n, grantedTTL: 0n, keys: [] });
    expect(headerOf(answer).memberId).not.toBe(0n);
  });

  test("lease: the list shows granted leases", async (c) => {
    const [one, two] = [await c.grant(50), await c.grant(40)];
    const ids = (await c.client.leaseLeases()).leases.map((status) => status.ID);
    expect(ids).toEqual(expect.arrayContaining([one, two]));
    // By expiry; a follower knows none.
    if (options.members === 1) expect(ids.indexOf(two)).toBeLessThan(ids.indexOf(one));
    await c.client.leaseRevoke(one);
    const left = (await c.client.leaseLeases()).leases.map((status) => status.ID);
    expect(left).not.toContain(one);
  });

  test("lease: keepalive answers in order, renews, and gives TTL 0 for unknown ones", async (c) => {
    const [one, two] = [await c.grant(30), await c.grant(20)];
    const stream = c.client.leaseKeepAlive();
    c.later(() => stream.cancel());
    for (const ID of [one, ABSENT, two, one]) stream.send({ ID });
    const answers = [];
    for (let index = 0; index < 4; index += 1) answers.push(await stream.next());
    expect(answers.map((answer) => [answer.ID, answer.TTL])).toEqual([
      [one, 30n],
      [ABSENT, 0n],
      [two, 20n],
      [one, 30n],
    ]);
    expect(answers.every((answer) => headerOf(answer).memberId !== 0n)).toBe(true);
  });

  test("lease: half-close ends a keepalive stream", async (c) => {
    const ID = await c.grant(30);
    const stream = c.client.leaseKeepAlive();
    stream.send({ ID });
    expect((await stream.next()).TTL).toBe(30n);
    stream.halfClose();
    expect(await stream.end()).toBeUndefined();
  });

  test("lease: keepalive extends a lease past its TTL; without it it expires", async (c) => {
    const lost = await c.grant(2);
    await c.put("lost-b", "1", { lease: lost });
    await c.put("lost-a", "1", { lease: lost });
    const watch = c.watch();
    await watch.created({ key: c.key("lost"), rangeEnd: c.key("lost~") });
    // A machine so slow that renewals come too late for the TTL gets a longer one.
    let ttl = 2;
    while (!(await staysAlive(c, ttl))) ttl *= 2;
    const gone = await watch.next();
    expect(gone.events.map((event) => c.nameOf(event.kv?.key ?? c.key("?")))).toEqual([
      "lost-a",
      "lost-b",
    ]);
    expect((await c.client.leaseTimeToLive({ ID: lost })).TTL).toBe(-1n);
    expect(c.names(await c.list())).not.toContain("lost-a");
  });
};

/**
 * Renews a lease until it is older than its TTL, and asserts that it and its key live. False if that
 * is not promised: an answer came later than the TTL after the renewal before it was sent.
 */
async function staysAlive(c: Case, ttlSeconds: number): Promise<boolean> {
  const milliseconds = ttlSeconds * 1000;
  let sentAt = performance.now();
  const over = sentAt + 1.2 * milliseconds;
  const { ID } = await c.client.leaseGrant({ TTL: BigInt(ttlSeconds) });
  c.later(() => c.client.leaseRevoke(ID).catch(() => undefined));
  await c.put("kept", "1", { lease: ID });
  const stream = c.client.leaseKeepAlive();
  c.later(() => stream.cancel());
  const isLate = (): boolean => performance.now() > sentAt + milliseconds;
  while (performance.now() < over) {
    await new Promise((resolve) => setTimeout(resolve, milliseconds / 5));
    const nextAt = performance.now();
    stream.send({ ID });
    const { TTL } = await stream.next();
    if (isLate()) return false;
    expect(TTL).toBe(BigInt(ttlSeconds));
    sentAt = nextAt;
  }
  const { count } = await c.range("kept");
  if (isLate()) return false;
  expect(count).toBe(1n);
  return true;
}
