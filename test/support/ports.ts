/**
 * Free TCP ports on 127.0.0.1, for programs that must be told a port. They lie below those that systems give out by
 * themselves (Linux: from 32768 on), so that no connection and no listener on port 0 takes one before its program
 * listens, or while that is being started again, not even one that tries to reach that very port. No process gives one
 * out twice; another program may still take one, which then fails loudly at its listener.
 */
import { once } from "node:events";
import { createServer, type AddressInfo, type Server } from "node:net";

/** No browser refuses these, as it does 10080. */
const LOWEST = 11_000;
const COUNT = 21_000;
const TRIES_MAX = 1000;

/** Their programs may be down just now, and come back. */
const given = new Set<number>();

export async function freePorts(count: number): Promise<number[]> {
  const servers: Server[] = [];
  try {
    for (let tries = 0; servers.length < count; tries += 1) {
      if (tries === TRIES_MAX) throw new Error(`no ${count} free ports`);
      const port = LOWEST + Math.floor(Math.random() * COUNT);
      if (given.has(port)) continue;
      const server = await listening(port);
      if (server === undefined) continue;
      given.add(port);
      servers.push(server);
    }
    return servers.map((server) => (server.address() as AddressInfo).port);
  } finally {
    await Promise.all(
      servers.map((server) => {
        const closed = once(server, "close");
        server.close();
        return closed;
      }),
    );
  }
}

/** Whether a program could listen on it now. */
export async function isFree(port: number): Promise<boolean> {
  const server = await listening(port);
  if (server === undefined) return false;
  const closed = once(server, "close");
  server.close();
  await closed;
  return true;
}

/** Undefined: somebody has the port. */
async function listening(port: number): Promise<Server | undefined> {
  const server = createServer().listen(port, "127.0.0.1");
  try {
    await once(server, "listening");
    return server;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
    return undefined;
  }
}
