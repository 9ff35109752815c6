/**
 * The client in a real browser, in pages of another origin than the edge's: calls, watches and
 * leases over a WebSocket and over POST, server-sent events by the browser's own EventSource, and
 * the presence list.
 */
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect } from "../../shared/client/index.ts";
import type { Store } from "../../shared/client/index.ts";
import { startWorkerd } from "../edge/edge.ts";
import type { Edge } from "../edge/edge.ts";
import { Browser } from "../support/browser.ts";
import type { Page } from "../support/browser.ts";
import { startQuorate } from "../support/cluster.ts";
import type { Cluster } from "../support/cluster.ts";
import { describeWithTools } from "../support/tools.ts";

/** Serves one page and its script on 127.0.0.1. */
async function servePage(): Promise<Server> {
  const { outputFiles } = await build({
    entryPoints: [join(import.meta.dirname, "page.ts")],
    bundle: true,
    write: false,
    format: "esm",
    platform: "browser",
    target: "es2022",
    logLevel: "error",
  });
  const script = outputFiles[0]?.text ?? "";
  const server = createServer((request, response) => {
    const isScript = request.url === "/page.js";
    response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
    response.end(
      isScript ? script : '<!doctype html><script type="module" src="/page.js"></script>',
    );
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  return server;
}

describeWithTools(["chromium"], "the client in Chromium", () => {
  let cluster: Cluster;
  let edge: Edge;
  let store: Store<string>;
  let server: Server;
  let browser: Browser;
  let page: Page;
  let pageUrl: string;

  beforeAll(async () => {
    server = await servePage();
    pageUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    cluster = await startQuorate();
    const peers = cluster.addresses.map((address) => `http://${address}`);
    edge = await startWorkerd(peers, { QUORATE_ORIGINS: pageUrl });
    store = connect({ endpoints: peers });
    browser = await Browser.start();
    page = await browser.open(pageUrl);
  }, 240_000);
  afterAll(async () => {
    store?.close();
    await browser?.stop();
    await edge?.stop();
    await cluster?.stop();
    server?.closeAllConnections();
    server?.close();
  });

  /** Runs the body of an async function in the page, with `store` over the edge. */
  const inPage = <Value>(body: string, options = "{}", at = page): Promise<Value> =>
    at.run<Value>(`(async () => {
      const { connect, key, put, get } = quorate;
      const store = connect({ edge: ${JSON.stringify(edge.url)}, ...${options} });
      try { ${body} } finally { store.close(); }
    })()`);

  test.each(["socket", "post"])("keys and transactions over the edge (%s)", async (transport) => {
    const got = await inPage(
      `const { revision } = await store.put("page/${transport}", "grüße");
       const entry = await store.get("page/${transport}");
       const { succeeded } = await store.txn()
         .if(key("page/${transport}").modRevision.equals(revision))
         .do(put("page/swapped", "yes")).commit();
       return [entry.value, entry.modRevision === revision, succeeded];`,
      `{ transport: "${transport}" }`,
    );
    expect(got).toEqual(["grüße", true, true]);
    expect((await store.get(`page/${transport}`))?.value).toBe("grüße");
  });

  test.each(["socket", "post"])("a watch sees what others write (%s)", async (transport) => {
    const watching = inPage<string[]>(
      `const watch = store.watch({ prefix: "seen/" });
       await watch.ready;
       await store.put("page/watches-${transport}", "1");
       const values = [];
       for await (const event of watch) {
         values.push(event.entry.value);
         if (values.length === 3) return values;
       }`,
      `{ transport: "${transport}" }`,
    );
    const isReady = async (): Promise<boolean> =>
      (await store.get(`page/watches-${transport}`)) !== undefined;
    await expect.poll(isReady).toBe(true);
    for (const value of ["1", "2", "3"]) await store.put("seen/k", value);
    expect(await watching).toEqual(["1", "2", "3"]);
  });

  test("a lease is kept alive by the page, through the edge's hub", async () => {
    const got = await inPage(
      `const lease = await store.lease({ ttl: 5 });
       await store.put("page/leased", "x", { lease });
       await new Promise((resolve) => setTimeout(resolve, 6000));
       const alive = (await store.get("page/leased"))?.value;
       const { aborted } = lease.signal;
       await lease.revoke();
       return [alive, aborted, (await store.get("page/leased")) === undefined];`,
    );
    expect(got).toEqual(["x", false, true]);
  });

  test("errors are typed in the page too", async () => {
    const got = await inPage(
      `try { await store.put("page/k", "v", { lease: 99n }); } catch (error) {
         return [error instanceof quorate.RpcError, error.code, error.outcome, error.retryable];
       }`,
    );
    expect(got).toEqual([true, "leaseNotFound", "none", false]);
  });

  test("EventSource follows the edge's server-sent events", async () => {
    const url = `${edge.url}/watch?prefix=${encodeURIComponent("sse/")}`;
    const following = page.run<unknown[]>(`new Promise((resolve, reject) => {
      const events = [];
      const source = new EventSource(${JSON.stringify(url)});
      const take = (event) => {
        events.push([event.type, JSON.parse(event.data).value ?? null]);
        if (event.type === "ready") globalThis.sseReady = true;
        if (events.length === 4) { source.close(); resolve(events); }
      };
      for (const type of ["ready", "put", "delete"]) source.addEventListener(type, take);
      source.onerror = () => reject(new Error("the stream failed"));
    })`);
    const isReady = (): Promise<boolean> => page.run("globalThis.sseReady === true");
    await expect.poll(isReady).toBe(true);
    await store.put("sse/k", "1");
    await store.put("sse/k", "2");
    await store.delete("sse/k");
    expect(await following).toEqual([
      ["ready", null],
      ["put", "1"],
      ["put", "2"],
      ["delete", null],
    ]);
  });

  test("a page of an origin that isn't listed gets nowhere", async () => {
    const foreign = await browser.open(pageUrl.replace("127.0.0.1", "localhost"));
    for (const transport of ["socket", "post"]) {
      const outcome = inPage<string>(
        `try { await store.get("page/socket"); return "read"; } catch (error) { return error.status; }`,
        `{ transport: "${transport}", timeoutMilliseconds: 2000 }`,
        foreign,
      );
      expect(await outcome).toBe("unavailable");
    }
    await foreign.close();
  });

  test("the presence list: who joins is shown, who closes the page is gone", async () => {
    const join = (at: Page, name: string): Promise<void> =>
      at.run(`(async () => {
        const store = quorate.connect({ edge: ${JSON.stringify(edge.url)} });
        await joinRoom(store, {
          room: "lobby", name: "${name}", ttl: 6,
          show: (names) => { globalThis.names = names; },
        });
      })()`);
    const shown = (at: Page): Promise<string[]> => at.run("globalThis.names ?? []");
    const other = await browser.open(pageUrl);
    await join(page, "Ada");
    await join(other, "Grace");
    for (const at of [page, other]) {
      await expect.poll(() => shown(at)).toEqual(["Ada", "Grace"]);
    }
    await other.close();
    await expect.poll(() => shown(page), { timeout: 60_000 }).toEqual(["Ada"]);
  });
});
