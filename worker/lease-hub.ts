/**
 * The lease hub as a Durable Object: callers' keepalives in, few messages to the peers out. The
 * rules are `lease-hub-core.ts`'s, their running `lease-hub-driver.ts`'s; the callers' promises die
 * with this incarnation.
 */
import { DurableObject } from "cloudflare:workers";
import { LIMITS } from "../shared/base/limits.ts";
import { EVERYTHING } from "./auth/grant.ts";
import { configOf } from "./config.ts";
import type { EdgeEnv, HubAnswer, LeaseHubStub } from "./config.ts";
import { LeaseHubDriver } from "./lease-hub-driver.ts";
import { Upstream } from "./upstream.ts";

export class LeaseHub extends DurableObject<EdgeEnv> implements LeaseHubStub {
  readonly #driver = new LeaseHubDriver(crypto.randomUUID(), {
    limits: {
      gatherMilliseconds: LIMITS.hubGatherMilliseconds,
      batchIdsMax: LIMITS.leaseRenewIdsMax,
      waitingMax: LIMITS.hubWaitingMax,
    },
    now: () => Date.now(),
    after: (milliseconds, run) => {
      const timer = setTimeout(run, milliseconds);
      return () => clearTimeout(timer);
    },
    renew: (ids) =>
      new Upstream(configOf(this.env), EVERYTHING).call({ method: "leaseKeepAlive", ids }),
  });

  keepAlive(idTexts: readonly string[]): Promise<HubAnswer> {
    return this.#driver.keepAlive(idTexts.map(BigInt));
  }
}
