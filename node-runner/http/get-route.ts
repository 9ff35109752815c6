/** Routes that answer GET alone and refuse every other method as etcd does, HEAD included. */
import type { Context, Hono } from "hono";

export function addGetRoute(
  app: Hono,
  path: string,
  answer: (context: Context) => Response | Promise<Response>,
): void {
  app.all(path, (context) => {
    if (context.req.raw.method === "GET") return answer(context);
    return new Response("Method Not Allowed\n", { status: 405, headers: { allow: "GET" } });
  });
}
