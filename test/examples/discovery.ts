/**
 * Service discovery: servers that offer themselves for as long as they live, and a caller that asks
 * whoever is there, and goes on to the next when one fails.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { register } from "../../shared/client/index.ts";
import type { Services, Store } from "../../shared/client/index.ts";

export interface GreetingServer {
  readonly address: string;
  /** Stops listening without a word to anybody. */
  crash(): void;
  stop(): Promise<void>;
}

/** A server of the service "greeter". */
export async function startGreeter(store: Store<string>, name: string): Promise<GreetingServer> {
  const server = createServer((_request, response) => response.end(`hello from ${name}`));
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const registration = await register(
    store,
    "greeter",
    { address, metadata: { name } },
    { ttl: 10 },
  );
  const crash = (): void => {
    server.closeAllConnections();
    server.close();
  };
  return {
    address,
    crash,
    async stop() {
      await registration.unregister();
      crash();
    },
  };
}

/** Asks one after the other until one answers; each failed one rests for a while. */
export async function greet(services: Services): Promise<string> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await services.use(async ({ address }) => (await fetch(`http://${address}/`)).text());
    } catch (error) {
      if (attempt > services.current.length) throw error;
    }
  }
}
