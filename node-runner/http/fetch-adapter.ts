/**
 * Serves a fetch-style application (Request in, Response out) on the peer's own HTTP door, over
 * HTTP/1.1 and HTTP/2 alike. For routes that read no body and no header but `authorization`: what
 * else the client sends is not looked at.
 */
import type { HttpHandler, HttpRequest, HttpResponse } from "../http2/http-handler.ts";

export type FetchApplication = (request: Request) => Response | Promise<Response>;

/**
 * `onError` hears of what the application throws; the client then gets 500. A request that has no
 * fetch equivalent (credentials in its host, the method TRACE) is malformed.
 */
export function serveFetch(
  application: FetchApplication,
  onError: (error: unknown) => void,
): HttpHandler {
  return (request, response) => {
    const made = fetchRequest(request);
    if (made === undefined) {
      response.writeHead(400);
      response.end("malformed request\n");
      return;
    }
    answer(application, made, response).catch((error: unknown) => {
      onError(error);
      if (response.isOver) return;
      if (!response.hasHead) response.writeHead(500, { "content-type": "text/plain" });
      response.end("internal error\n");
    });
  };
}

/** Undefined where `Request` refuses what the client sent. */
function fetchRequest(request: HttpRequest): Request | undefined {
  const authorization = request.header("authorization");
  const headers = authorization === undefined ? {} : { authorization };
  try {
    const url = `http://${request.header("host") ?? "localhost"}${request.target}`;
    return new Request(url, { method: request.method, headers });
  } catch {
    return undefined;
  }
}

async function answer(
  application: FetchApplication,
  request: Request,
  response: HttpResponse,
): Promise<void> {
  const result = await application(request);
  const body = new Uint8Array(await result.arrayBuffer());
  if (response.isOver) return;
  response.writeHead(result.status, Object.fromEntries(result.headers));
  response.end(request.method === "HEAD" ? undefined : body);
}
