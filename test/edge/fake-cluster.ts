/** A cluster that is one map in memory, on a socket: what tests of the edge's objects count and bend. */
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { attachLink } from "../../node-runner/link/link-door.ts";
import type { LinkDoor } from "../../node-runner/link/link-door.ts";
import { PATIENT_CALL } from "../support/in-process-cluster.ts";
import { MemoryServices } from "../support/memory-services.ts";

/** Peers of one map, on a socket. */
export class FakeCluster {
  readonly services = new MemoryServices();
  readonly #server: Server = createServer();
  readonly #door: LinkDoor;

  constructor() {
    const options = {
      clusterId: 1n,
      memberId: 2n,
      secret: undefined,
      knowsCallers: false,
      origins: [],
    };
    this.#door = attachLink(this.#server, this.services, options);
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async grant(): Promise<string> {
    const { id } = await this.services.lease.grant({ id: 0n, ttlSeconds: 30n }, PATIENT_CALL);
    return `${id}`;
  }

  stop(): void {
    this.#door.close();
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
