/**
 * Cross-origin requests by etcd's rules (--cors): the origins that browsers may come from, `*` for
 * all.
 */
import type { HttpHandler } from "../http2/http-handler.ts";

const METHODS = "POST, GET, OPTIONS, PUT, DELETE";
const HEADERS = "accept, content-type, authorization";

/**
 * Wraps a handler: answers preflights, and adds the headers to the responses of allowed origins.
 */
export function withCors(origins: readonly string[], handler: HttpHandler): HttpHandler {
  const all = origins.includes("*");
  return (request, response) => {
    const origin = request.header("origin");
    const allowed = all
      ? "*"
      : origin !== undefined && origins.includes(origin)
        ? origin
        : undefined;
    if (allowed === undefined) return handler(request, response);
    const headers = {
      "access-control-allow-methods": METHODS,
      "access-control-allow-origin": allowed,
      "access-control-allow-headers": HEADERS,
    };
    if (request.method === "OPTIONS") {
      response.writeHead(200, headers);
      response.end();
      return;
    }
    const writeHead = response.writeHead.bind(response);
    response.writeHead = (status, own = {}) => writeHead(status, { ...headers, ...own });
    handler(request, response);
  };
}
