/** Holds every answer of a suite against the API's document: its status and its content type. */
import { openApi } from "../../worker/openapi.ts";

/** The document's path for a request's, or undefined where it describes none. */
function templateOf(pathname: string): string | undefined {
  if (pathname.startsWith("/kv/")) return "/kv/{key}";
  if (/^\/lease\/[^/]+$/.test(pathname)) return "/lease/{id}";
  if (/^\/lease\/[^/]+\/keepalive$/.test(pathname)) return "/lease/{id}/keepalive";
  return Object.hasOwn(openApi().paths, pathname) ? pathname : undefined;
}

/** Throws when the answer is none that the document names. */
export function checkDescribed(url: string, method: string, response: Response): void {
  const template = templateOf(new URL(url).pathname);
  const verb = method === "HEAD" ? "get" : method.toLowerCase();
  const operation = template === undefined ? undefined : openApi().paths[template]?.[verb];
  // Methods and paths that it doesn't name are the app's 404.
  if (operation === undefined) return;
  const answer = operation.responses[`${response.status}`];
  const what = `${method} ${template} answered ${response.status}`;
  if (answer === undefined) throw new Error(`${what}, which the document doesn't name`);
  const type = response.headers.get("content-type")?.replace(/;.*$/, "");
  const types = Object.keys(answer.content ?? {});
  if (type === undefined ? types.length > 0 : !types.includes(type)) {
    throw new Error(`${what} as ${type}; the document says ${types.join(", ")}`);
  }
}
