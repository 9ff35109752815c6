/** Watch: section 1.3 of etcd's semantics. */
import { expect } from "vitest";
import { WatchCreateRequest_FilterType as Filter } from "../../../shared/api/gen/etcdserverpb/rpc_pb.js";
import type { WatchResponse } from "../../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { Event_EventType } from "../../../shared/api/gen/mvccpb/kv_pb.js";
import { errorText } from "../../../shared/api/errors.ts";
import { textOf, utf8 } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import type { WatchStream } from "../../support/etcd-client.ts";
import { first, revisionOf, type ApiSuite, type Case } from "../api-suite.ts";

/** Long enough that an answer of a healthy server would have come. */
const QUIET_MILLISECONDS = 300;

/** `+a=1` for a put, `-a` for a delete. */
function show(c: Case, response: WatchResponse): string[] {
  return response.events.map(({ type, kv }) => {
    const name = c.nameOf(kv?.key ?? utf8("?"));
    return type === Event_EventType.PUT ? `+${name}=${textOf(kv?.value ?? utf8("?"))}` : `-${name}`;
  });
}

/** Responses until this many events have come, flattened; catch-up may cut them anywhere. */
async function collect(c: Case, watch: WatchStream, count: number): Promise<string[]> {
  const events: string[] = [];
  while (events.length < count) events.push(...show(c, await watch.next()));
  return events;
}

export const watchEvents: ApiSuite = (test) => {
  test("watch: created carries the current revision and id 0 first on a stream", async (c) => {
    const now = revisionOf(await c.put("a", "1"));
    const watch = c.watch();
    const created = await watch.created({ key: c.key("a") });
    expect(created).toMatchObject({ watchId: 0n, created: true, canceled: false, events: [] });
    expect(revisionOf(created)).toBe(now);
    expect(created.header?.memberId).not.toBe(0n);
    expect((await watch.created({ key: c.key("a") })).watchId).toBe(1n);
  });

  test("watch: a live watcher gets puts and deletes, one revision a response", async (c) => {
    const watch = c.watch();
    await watch.created({ key: c.key("a") });
    await c.put("a", "1");
    await c.put("a", "2");
    await c.deleteRange("a");
    await c.put("a", "3");
    for (const expected of ["+a=1", "+a=2", "-a", "+a=3"]) {
      const response = await watch.next();
      expect(show(c, response)).toEqual([expected]);
      expect(response.created || response.canceled).toBe(false);
      expect(response.events[0]?.kv?.modRevision).toBe(revisionOf(response));
    }
  });

  test("watch: a put event is the whole kv, a delete event key and revision only", async (c) => {
    const lease = await c.grant();
    const watch = c.watch();
    await watch.created({ key: c.key("a") });
    await c.put("a", "1", { lease });
    const kv = first((await c.range("a")).kvs);
    expect((await watch.next()).events[0]).toMatchObject({ kv });
    const gone = revisionOf(await c.deleteRange("a"));
    const event = first((await watch.next()).events);
    expect(event.type).toBe(Event_EventType.DELETE);
    expect(event.prevKv).toBeUndefined();
    expect(event.kv).toMatchObject({ modRevision: gone, createRevision: 0n, version: 0n });
    expect([event.kv?.value.length, event.kv?.lease]).toEqual([0, 0n]);
  });

  test("watch: a single key ignores its neighbours, a range is half-open", async (c) => {
    const watch = c.watch();
    const one = await watch.created({ key: c.key("b") });
    const range = await watch.created({ key: c.key("b"), rangeEnd: c.key("d") });
    for (const name of ["a", "b", "bb", "c", "d"]) await c.put(name, "1");
    const got = new Map([
      [one.watchId, [] as string[]],
      [range.watchId, [] as string[]],
    ]);
    for (let responses = 0; responses < 4; responses += 1) {
      const response = await watch.next();
      got.get(response.watchId)?.push(...show(c, response));
    }
    expect(got.get(one.watchId)).toEqual(["+b=1"]);
    expect(got.get(range.watchId)).toEqual(["+b=1", "+bb=1", "+c=1"]);
    await watch.quiet(QUIET_MILLISECONDS);
  });

  test("watch: range_end of one zero byte means every key from key on", async (c) => {
    const watch = c.watch();
    await watch.created({ key: Uint8Array.of(255, 255), rangeEnd: Uint8Array.of(0) });
    const key = Uint8Array.of(255, 255, 7);
    await c.put("a", "1");
    await c.client.put({ key });
    c.later(() => c.client.deleteRange({ key }));
    expect((await watch.next()).events[0]?.kv?.key).toEqual(key);
  });

  test("watch: an empty key with range_end zero watches the whole store", async (c) => {
    const watch = c.watch();
    const created = await watch.created({ rangeEnd: Uint8Array.of(0) });
    expect(created.canceled).toBe(false);
    await c.put("a", "1");
    expect(show(c, await watch.next())).toEqual(["+a=1"]);
  });

  test("watch: a past start revision replays history in order, then goes on live", async (c) => {
    const one = revisionOf(await c.put("a", "1"));
    await c.put("b", "2");
    await c.deleteRange("a");
    await c.put("c", "3");
    const watch = c.watch();
    await watch.created({ ...c.everything, startRevision: one + 1n });
    expect(await collect(c, watch, 3)).toEqual(["+b=2", "-a", "+c=3"]);
    await c.put("d", "4");
    expect(await collect(c, watch, 1)).toEqual(["+d=4"]);
  });

  test("watch: a future start revision waits for it silently", async (c) => {
    const now = revisionOf(await c.put("a", "1"));
    const watch = c.watch();
    await watch.created({ key: c.key("a"), startRevision: now + 3n });
    await c.put("a", "2");
    await c.put("a", "3");
    await watch.quiet(QUIET_MILLISECONDS);
    await c.put("a", "4");
    const response = await watch.next();
    expect(show(c, response)).toEqual(["+a=4"]);
    expect(revisionOf(response)).toBe(now + 3n);
  });

  test("watch: prev_kv shows the kv before, on puts and deletes but not on creates", async (c) => {
    const watch = c.watch();
    await watch.created({ key: c.key("a"), prevKv: true });
    await c.put("a", "1");
    expect((await watch.next()).events[0]?.prevKv).toBeUndefined();
    const before = first((await c.range("a")).kvs);
    await c.put("a", "2");
    expect((await watch.next()).events[0]?.prevKv).toEqual(before);
    await c.deleteRange("a");
    expect(textOf((await watch.next()).events[0]?.prevKv?.value ?? utf8("?"))).toBe("2");
  });

  test("watch: prev_kv in history; a compacted one is left out", async (c) => {
    await c.put("a", "1");
    const two = revisionOf(await c.put("a", "2"));
    await c.put("a", "3");
    const history = c.watch();
    await history.created({ key: c.key("a"), prevKv: true, startRevision: two });
    const events = (await history.next()).events;
    expect(events.map((event) => textOf(event.prevKv?.value ?? utf8("?")))).toEqual(["1", "2"]);
    await c.client.compact({ revision: two, physical: true });
    const later = c.watch();
    await later.created({ key: c.key("a"), prevKv: true, startRevision: two });
    const [at, after] = (await later.next()).events;
    expect(at?.prevKv).toBeUndefined();
    expect(textOf(after?.prevKv?.value ?? utf8("?"))).toBe("2");
  });

  test("watch: filters drop puts or deletes, and filtered revisions send nothing", async (c) => {
    const watch = c.watch();
    const key = c.key("a");
    const noPut = (await watch.created({ key, filters: [Filter.NOPUT] })).watchId;
    const noDelete = (await watch.created({ key, filters: [Filter.NODELETE] })).watchId;
    await watch.created({ key, filters: [Filter.NOPUT, Filter.NODELETE] });
    await c.put("a", "1");
    const put = await watch.next();
    expect([put.watchId, show(c, put)]).toEqual([noDelete, ["+a=1"]]);
    await c.deleteRange("a");
    const gone = await watch.next();
    expect([gone.watchId, show(c, gone)]).toEqual([noPut, ["-a"]]);
    await watch.quiet(QUIET_MILLISECONDS);
  });

  test("watch: a range delete and a transaction arrive whole in one response", async (c) => {
    for (const name of "abc") await c.put(name, "1");
    const watch = c.watch();
    await watch.created(c.everything);
    await c.deleteRange("", c.everything);
    expect(show(c, await watch.next())).toEqual(["-a", "-b", "-c"]);
  });

  test("watch: history of more than 1000 revisions arrives without gaps", async (c) => {
    const start = (await c.revision()) + 1n;
    const puts = Array.from({ length: 1300 }, (_, index) => index);
    for (let at = 0; at < puts.length; at += 100) {
      await Promise.all(puts.slice(at, at + 100).map((index) => c.put("a", String(index))));
    }
    const watch = c.watch();
    await watch.created({ key: c.key("a"), startRevision: start });
    const revisions: bigint[] = [];
    while (revisions.length < puts.length) {
      const response = await watch.next();
      revisions.push(...response.events.map((event) => event.kv?.modRevision ?? 0n));
    }
    expect(revisions).toEqual(puts.map((index) => start + BigInt(index)));
  });

  test("watch: watchers that begin among writes miss and repeat nothing", async (c) => {
    const start = (await c.revision()) + 1n;
    const writers = Array.from({ length: 8 }, (_, index) => String(index));
    const rounds = 40;
    const written = Promise.all(
      writers.map(async (name) => {
        for (let round = 0; round < rounds; round += 1) await c.put(name, String(round));
      }),
    );
    const watches: WatchStream[] = [];
    for (let index = 0; index < 10; index += 1) {
      const watch = c.watch();
      await watch.created({ ...c.everything, startRevision: start });
      watches.push(watch);
    }
    await written;
    const wanted = Array.from({ length: 8 * rounds }, (_, index) => start + BigInt(index));
    for (const watch of watches) {
      const seen: bigint[] = [];
      while (seen.length < wanted.length) {
        const { events } = await watch.next();
        seen.push(...events.map((event) => event.kv?.modRevision ?? 0n));
      }
      expect(seen).toEqual(wanted);
    }
  });

  test("watch: a stream of its own for each of fifty clients gets the event", async (c) => {
    const watches = Array.from({ length: 50 }, () => c.watch());
    await Promise.all(watches.map((watch) => watch.created({ key: c.key("a") })));
    const revision = revisionOf(await c.put("a", "1"));
    const answers = await Promise.all(watches.map((watch) => watch.next()));
    expect(new Set(answers.map((answer) => revisionOf(answer)))).toEqual(new Set([revision]));
  });

  test("watch: a hundred watchers on one stream each get the event", async (c) => {
    const watch = c.watch();
    for (let index = 0; index < 100; index += 1) watch.create({ key: c.key("a") });
    const ids = new Set<bigint>();
    for (let index = 0; index < 100; index += 1) ids.add((await watch.next()).watchId);
    expect(ids.size).toBe(100);
    await c.put("a", "1");
    const got = new Set<bigint>();
    for (let index = 0; index < 100; index += 1) got.add((await watch.next()).watchId);
    expect(got).toEqual(ids);
  });

  test("watch: fragment splits a large revision, and only the last part lacks the mark", async (c) => {
    const value = new Uint8Array(700 * 1024);
    const names = ["a", "b", "c", "d"];
    for (const name of names) await c.client.put({ key: c.key(name), value });
    const watch = c.watch();
    await watch.created({ ...c.everything, prevKv: true, fragment: true });
    await c.deleteRange("", c.everything);
    const parts: WatchResponse[] = [];
    do parts.push(await watch.next());
    while (parts.at(-1)?.fragment === true);
    expect(parts.length).toBeGreaterThan(1);
    expect(parts.flatMap((part) => show(c, part))).toEqual(names.map((name) => `-${name}`));
  });

  test("watch: without fragment a large revision comes whole", async (c) => {
    const value = new Uint8Array(LIMITS.requestBytesMax / 2);
    for (const name of "abcd") await c.client.put({ key: c.key(name), value });
    const watch = c.watch();
    await watch.created({ ...c.everything, prevKv: true });
    await c.deleteRange("", c.everything);
    const response = await watch.next();
    expect([response.fragment, response.events.length]).toEqual([false, 4]);
  });
};

export const watchControl: ApiSuite = (test) => {
  const range = (c: Case) => ({ key: c.key("a") });

  test("watch: a client's own id is used, and the server skips it", async (c) => {
    const watch = c.watch();
    expect((await watch.created({ ...range(c), watchId: 1n })).watchId).toBe(1n);
    expect((await watch.created({ ...range(c), watchId: -7n })).watchId).toBe(-7n);
    expect((await watch.created(range(c))).watchId).toBe(0n);
    expect((await watch.created(range(c))).watchId).toBe(2n);
  });

  test("watch: an id in use is answered created and canceled, and the stream goes on", async (c) => {
    const watch = c.watch();
    await watch.created({ ...range(c), watchId: 5n });
    const refused = await watch.created({ ...range(c), watchId: 5n });
    expect(refused).toMatchObject({ created: true, canceled: true, watchId: -1n });
    expect(refused.cancelReason).toBe("mvcc: duplicate watch ID provided on the WatchStream");
    await c.put("a", "1");
    expect(await watch.next()).toMatchObject({ watchId: 5n, canceled: false });
  });

  test("watch: an empty range is answered created and canceled", async (c) => {
    const watch = c.watch();
    for (const rangeEnd of [c.key("a"), c.key("A")]) {
      const refused = await watch.created({ key: c.key("a"), rangeEnd });
      expect(refused).toMatchObject({ created: true, canceled: true, watchId: -1n });
      expect(refused.cancelReason).toBe("mvcc: watcher range is empty");
    }
    expect((await watch.created(range(c))).canceled).toBe(false);
  });

  test("watch: a negative start revision is answered as compacted", async (c) => {
    const watch = c.watch();
    const refused = await watch.created({ ...range(c), startRevision: -1n });
    expect(refused).toMatchObject({ created: true, canceled: true, watchId: -1n });
    expect(refused.cancelReason).toBe(errorText("compacted"));
  });

  test("watch: a compacted start is created first, then canceled with the revision", async (c) => {
    const old = revisionOf(await c.put("a", "1"));
    const now = revisionOf(await c.put("a", "2"));
    await c.client.compact({ revision: now });
    const watch = c.watch();
    const created = await watch.created({ ...range(c), startRevision: old });
    expect(created).toMatchObject({ canceled: false, compactRevision: 0n });
    const canceled = await watch.next();
    expect(canceled).toMatchObject({ canceled: true, created: false, compactRevision: now });
    expect(canceled.watchId).toBe(created.watchId);
    expect(canceled.cancelReason).toBe("");
    expect(canceled.header?.revision).toBe(0n);
    expect((await watch.created(range(c))).canceled).toBe(false);
  });

  test("watch: starting at exactly the compacted revision works", async (c) => {
    const revision = revisionOf(await c.put("a", "1"));
    await c.client.compact({ revision });
    const watch = c.watch();
    await watch.created({ ...range(c), startRevision: revision });
    expect(show(c, await watch.next())).toEqual(["+a=1"]);
  });

  test("watch: cancel ends that watcher only; an unknown id is not answered", async (c) => {
    const watch = c.watch();
    const one = await watch.created(range(c));
    const two = await watch.created(range(c));
    watch.cancelWatch(99n);
    watch.cancelWatch(one.watchId);
    const canceled = await watch.next();
    expect(canceled).toMatchObject({ watchId: one.watchId, canceled: true, created: false });
    expect([canceled.cancelReason, canceled.compactRevision]).toEqual(["", 0n]);
    await c.put("a", "1");
    expect(await watch.next()).toMatchObject({ watchId: two.watchId, canceled: false });
    await watch.quiet(QUIET_MILLISECONDS);
  });

  test("watch: a progress request is answered with id -1 and the current revision", async (c) => {
    const watch = c.watch();
    await watch.created(range(c));
    const now = revisionOf(await c.put("b", "1"));
    let progress: WatchResponse | undefined;
    // A watcher that isn't synced yet answers nothing, so the request is repeated.
    for (let tries = 0; tries < 20 && progress === undefined; tries += 1) {
      watch.requestProgress();
      progress = await watch.next(QUIET_MILLISECONDS).catch(() => undefined);
    }
    expect(progress).toMatchObject({ watchId: -1n, created: false, canceled: false, events: [] });
    expect(progress?.header?.revision).toBe(now);
  });

  test("watch: progress_notify tells a quiet watcher the revision again and again", async (c) => {
    const watch = c.watch();
    await watch.created({ ...range(c), watchId: 3n, progressNotify: true });
    const now = revisionOf(await c.put("b", "1"));
    let notified = await watch.next();
    while (revisionOf(notified) < now) notified = await watch.next();
    expect(notified).toMatchObject({ watchId: 3n, created: false, canceled: false, events: [] });
    expect(revisionOf(notified)).toBe(now);
    expect(revisionOf(await watch.next())).toBe(now);
  });

  test("watch: progress never claims more than was delivered before it", async (c) => {
    const watch = c.watch();
    await watch.created(c.everything);
    let delivered = await c.revision();
    const written = Promise.all(
      Array.from({ length: 100 }, async (_, index) => {
        await c.put(String(index % 7), String(index));
        if (index % 3 === 0) watch.requestProgress();
      }),
    );
    const last = delivered + 100n;
    while (delivered < last) {
      const response = await watch.next();
      if (response.events.length > 0) delivered = response.events.at(-1)?.kv?.modRevision ?? 0n;
      else expect(revisionOf(response) <= delivered).toBe(true);
    }
    await written;
  });

  test("watch: a progress request on a stream without watchers is not answered", async (c) => {
    const watch = c.watch();
    watch.requestProgress();
    await watch.quiet(QUIET_MILLISECONDS);
    await watch.created(range(c));
  });

  test("watch: a progress request waits for a future watcher", async (c) => {
    const now = await c.revision();
    const watch = c.watch();
    await watch.created({ ...range(c), startRevision: now + 100n });
    watch.requestProgress();
    await watch.quiet(QUIET_MILLISECONDS);
  });

  test("watch: a request without content is ignored", async (c) => {
    const watch = c.watch();
    watch.sendEmpty();
    expect((await watch.created(range(c))).watchId).toBe(0n);
  });

  test("watch: half-close doesn't end the stream; cancelling the call does", async (c) => {
    const watch = c.watch();
    await watch.created(range(c));
    watch.halfClose();
    await c.put("a", "1");
    expect(show(c, await watch.next())).toEqual(["+a=1"]);
    watch.cancel();
    expect((await watch.end())?.status).toBe("canceled");
  });

  test("watch: expiry and revocation of a lease are delete events of one revision", async (c) => {
    const lease = await c.grant();
    await c.put("b", "1", { lease });
    await c.put("a", "1", { lease });
    const watch = c.watch();
    await watch.created(c.everything);
    await c.client.leaseRevoke(lease);
    expect(show(c, await watch.next())).toEqual(["-a", "-b"]);
  });

  test("watch: hasleader metadata is honoured while there is a leader", async (c) => {
    const watch = c.client.watch({ metadata: { hasleader: "true" } });
    c.later(() => watch.cancel());
    expect((await watch.created(range(c))).canceled).toBe(false);
  });
};
