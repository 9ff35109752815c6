/**
 * The edge's app served by Bun, on a port of its choosing: run by `bun.test.ts` as a program. The
 * app is the same as everywhere; its settings come as JSON in `EDGE_ENV`.
 */
import { createApp } from "../../worker/app.ts";

interface BunGlobals {
  readonly Bun: {
    serve(options: {
      hostname: string;
      port: number;
      idleTimeout: number;
      fetch(request: Request): Response | Promise<Response>;
    }): { readonly port: number };
  };
}

const { Bun } = globalThis as unknown as BunGlobals;
const env = JSON.parse(process.env["EDGE_ENV"] ?? "{}") as Record<string, string>;
const app = createApp();
const { port } = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  // Watches are silent for longer than Bun's own 10 seconds.
  idleTimeout: 120,
  fetch: (request) => app.fetch(request, env),
});
console.log(`listening on ${port} end`);
