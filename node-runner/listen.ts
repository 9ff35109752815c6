/** From a configured address to what `net` and `http` servers take. */
import type { ListenAddress } from "./config/url.ts";

export function listenOptions(
  address: ListenAddress,
): { path: string } | { host: string; port: number } {
  return address.kind === "unix"
    ? { path: address.path }
    : { host: address.host, port: address.port };
}
