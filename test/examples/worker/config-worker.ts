/**
 * A Worker whose settings follow a key, without a deploy and without a read for each request: one
 * Durable Object per region holds the live value, over a service binding to the edge. Its watch is a
 * WebSocket, which a Durable Object may keep between requests.
 */
import { DurableObject } from "cloudflare:workers";
import { LiveValue, connect, json } from "../../../shared/client/index.ts";
import type { Fetcher } from "../../../shared/client/index.ts";

interface Settings {
  readonly banner: string;
}

interface Env {
  /** The edge. */
  readonly STORE: Fetcher;
  readonly SETTINGS: { getByName(name: string): { current(): Promise<Settings> } };
}

const FALLBACK: Settings = { banner: "none" };

export class SettingsHolder extends DurableObject<Env> {
  readonly #live: LiveValue<Settings>;

  constructor(state: DurableObjectState, env: Env) {
    super(state, env);
    const store = connect({ fetcher: env.STORE, transport: "socket" }).as(json<Settings>());
    this.#live = new LiveValue(store, "settings", { fallback: FALLBACK });
  }

  async current(): Promise<Settings> {
    await this.#live.ready;
    return this.#live.current ?? FALLBACK;
  }
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    if (request.method === "PUT") {
      // One call by POST over the binding, as is the default in Workers: nothing stays open.
      const store = connect({ fetcher: env.STORE }).as(json<Settings>());
      const { revision } = await store.put("settings", { banner: await request.text() });
      return Response.json({ revision });
    }
    const { banner } = await env.SETTINGS.getByName("here").current();
    return new Response(banner);
  },
};
