/** Another Worker of the account, as an app would write it: it calls the store over bindings. */
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
