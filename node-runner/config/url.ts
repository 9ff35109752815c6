/**
 * The URLs of listeners and members: `http://host:port`, `https://host:port`, `unix://path` and
 * `unixs://path`, several separated by commas.
 */

/** One address to listen on. Port 0: the system chooses. */
export type ListenAddress =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number; readonly tls: boolean }
  | { readonly kind: "unix"; readonly path: string; readonly tls: boolean };

/** Of sockets in the file system, plain and with TLS. */
const UNIX = /^unix(s?):\/\/(.*)$/;

/** The listen address of a URL, or why it is none. */
export function parseListenUrl(text: string): ListenAddress | { readonly problem: string } {
  const unix = UNIX.exec(text);
  if (unix !== null) {
    const path = unix[2] as string;
    return path === ""
      ? { problem: "names no socket path" }
      : { kind: "unix", path, tls: unix[1] === "s" };
  }
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined) return { problem: "is no URL" };
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    return {
      problem: `has the scheme "${url.protocol.slice(0, -1)}": http, https or unix is needed`,
    };
  }
  if (url.pathname !== "/" || url.search !== "") return { problem: "has a path or a query" };
  // URL drops a scheme's default port, yet etcd demands that one is written.
  const port = url.port === "" ? writtenPort(text) : Number(url.port);
  if (port === undefined) return { problem: "names no port" };
  return {
    kind: "tcp",
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port,
    tls: url.protocol === "https:",
  };
}

function writtenPort(text: string): number | undefined {
  const match = /:(\d+)\/?$/.exec(text);
  return match === null ? undefined : Number(match[1]);
}

/** `http://127.0.0.1:2379` for an address; IPv6 hosts in brackets. */
export function urlOf(address: ListenAddress): string {
  if (address.kind === "unix") return `unix${address.tls ? "s" : ""}://${address.path}`;
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  return `${address.tls ? "https" : "http"}://${host}:${address.port}`;
}

/**
 * `name=url,name=url,...`: names may repeat, one URL each time. The URLs of each name, or why the
 * text is no such map.
 */
export function parseClusterMap(
  text: string,
): ReadonlyMap<string, readonly string[]> | { readonly problem: string } {
  const members = new Map<string, string[]>();
  for (const part of text.split(",").filter((piece) => piece !== "")) {
    const split = part.indexOf("=");
    if (split < 1) return { problem: `"${part}" is not of the form name=url` };
    const name = part.slice(0, split);
    const url = part.slice(split + 1);
    const address = parseListenUrl(url);
    if ("problem" in address) return { problem: `the URL "${url}" ${address.problem}` };
    members.set(name, [...(members.get(name) ?? []), url]);
  }
  return members;
}
