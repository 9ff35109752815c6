/**
 * Free TCP ports on 127.0.0.1, for programs that must be told a port. All ports of one call are held open together, so
 * they differ; another program may still take one before it is used, which then fails loudly at its listener.
 */
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";

export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(
    servers.map((server) => {
      const closed = once(server, "close");
      server.close();
      return closed;
    }),
  );
  return ports;
}
