/** Another Worker of the account, as an app would write it: it calls the store over bindings. */
import { watched } from "../../shared/client/index.ts";
import type { StoreEntrypoint } from "../../worker/store-entrypoint.ts";

interface AppEnv {
  readonly STORE: Service<typeof StoreEntrypoint>;
  /** The same, with permissions that the binding's props name. */
  readonly LIMITED: Service<typeof StoreEntrypoint>;
}

export default {
  async fetch(request: Request, env: AppEnv): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname === "/limited") return Response.json(await limited(env));
    if (pathname === "/watch") return Response.json(await watching(env));
    if (pathname === "/watch-many") return Response.json(await watchingMany(env));
    const missing = await env.STORE.get("app/none");
    const { revision } = await env.STORE.put("app/greeting", "hello");
    using entry = await env.STORE.get("app/greeting", { consistency: "session" });
    const taken = await env.STORE.compareAndSet("app/greeting", 0, "lost");
    const set = await env.STORE.compareAndSet("app/greeting", entry?.modRevision ?? 0, "changed");
    using listing = await env.STORE.list({ prefix: "app/" });
    using lease = await env.STORE.grantLease(30);
    await env.STORE.put("app/leased", "x", { lease: lease.id });
    const ttl = await env.STORE.keepAlive(lease.id);
    await env.STORE.revokeLease(lease.id);
    const gone = await env.STORE.get("app/leased");
    const { deleted } = await env.STORE.delete({ prefix: "app/" });
    return Response.json({
      missing: missing === undefined,
      value: entry?.value,
      modRevision: entry?.modRevision === revision,
      taken: taken.succeeded,
      set: set.succeeded,
      listed: listing.entries.map(({ key, value }) => [key, value]),
      ttl,
      gone: gone === undefined,
      deleted,
    });
  },
};

async function limited(env: AppEnv): Promise<object> {
  await env.LIMITED.put("mine/a", "x");
  const read = await env.LIMITED.get("mine/a");
  const refusal = (call: Promise<unknown>): Promise<string> =>
    call.then(
      () => "it was allowed",
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
  return {
    read: read?.value,
    foreignRead: await refusal(env.LIMITED.get("theirs/a")),
    foreignWrite: await refusal(env.LIMITED.put("theirs/a", "x")),
    everything: await refusal(env.LIMITED.list({ all: true })),
  };
}

/** A watch that is left and resumed, one of the past, and one that isn't allowed. */
async function watching(env: AppEnv): Promise<object> {
  const seen: (string | undefined)[][] = [];
  const ids: string[] = [];
  for await (const { type, id, entry } of watched(env.STORE.watch({ prefix: "w/" }))) {
    if (type === "ready") {
      await env.STORE.put("w/a", "1");
      await env.STORE.put("other", "x");
      await env.STORE.put("w/b", "2");
      await env.STORE.delete("w/a");
    }
    seen.push([type, entry?.key, entry?.value]);
    ids.push(id);
    if (seen.length === 4) break;
  }
  const resumed: (string | undefined)[][] = [];
  const after = ids[1] ?? "";
  for await (const { type, entry } of watched(env.STORE.watch({ prefix: "w/" }, { after }))) {
    resumed.push([type, entry?.key]);
    if (resumed.length === 3) break;
  }
  const refused = await watched(env.LIMITED.watch({ prefix: "theirs/" }))
    .next()
    .then(
      () => "it was allowed",
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
  return { seen, resumed, refused };
}

/** Many large events, more than what may wait for a reader at a time. */
async function watchingMany(env: AppEnv): Promise<object> {
  const count = 40;
  const revisions: number[] = [];
  const seen: number[] = [];
  for await (const { type, revision } of watched(env.STORE.watch({ prefix: "many/" }))) {
    if (type !== "ready") seen.push(revision);
    else {
      for (let each = 0; each < count; each += 1) {
        revisions.push((await env.STORE.put("many/key", "x".repeat(10_000))).revision);
      }
    }
    if (seen.length === count) break;
  }
  return { same: JSON.stringify(seen) === JSON.stringify(revisions), count: seen.length };
}
