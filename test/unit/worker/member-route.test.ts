/** Who gets from `/raft` to a member in a Durable Object, and to which. */
import { describe, expect, test } from "vitest";
import type { EdgeEnv } from "../../../worker/config.ts";
import { serveMember } from "../../../worker/member-route.ts";
import { HttpError } from "../../../worker/problem.ts";

const SECRET = "s";
const MEMBERS = "edge1=https://edge1.example.com:443,edge2=https://edge2.example.com:8443";

interface Call {
  readonly url?: string;
  readonly headers?: Record<string, string>;
  readonly cf?: object;
  readonly env?: Partial<EdgeEnv>;
}

/** The object's name that was asked, or the status of the refusal. */
async function reached(call: Call): Promise<string> {
  const { url = "https://edge1.example.com/raft", cf, env } = call;
  const headers = { authorization: `Bearer ${SECRET}`, ...call.headers };
  const fetch = (name: string) => () => Promise.resolve(new Response(name));
  // What the route uses of the binding.
  const PEER = {
    getByName: (name: string) => ({ fetch: fetch(name) }),
  } as unknown as NonNullable<EdgeEnv["PEER"]>;
  const request = Object.assign(new Request(url, { headers }), { cf });
  try {
    const all = { PEER, QUORATE_MEMBERS: MEMBERS, QUORATE_PEER_SECRET: SECRET, ...env };
    return await (await serveMember(request, all)).text();
  } catch (error) {
    return error instanceof HttpError ? String(error.status) : String(error);
  }
}

const verified = { tlsClientAuth: { certVerified: "SUCCESS" } };
const REQUIRED = { QUORATE_PEER_CERTS: "required" };

describe("the members' door", () => {
  test.each<[string, Call, string]>([
    ["leads to the member at the host", {}, "member:edge1"],
    ["tells ports apart", { url: "https://edge2.example.com:8443/raft" }, "member:edge2"],
    ["is at no other port", { url: "https://edge2.example.com/raft" }, "404"],
    ["is at no other host", { url: "https://other.example.com/raft" }, "404"],
    ["is nowhere without members", { env: { QUORATE_MEMBERS: "" } }, "404"],
    ["wants the secret", { headers: { authorization: "Bearer t" } }, "401"],
    ["keeps pages out", { headers: { origin: "https://edge1.example.com" } }, "403"],
    ["serves loopback alone without a secret", { env: { QUORATE_PEER_SECRET: "" } }, "403"],
    [
      "serves loopback without a secret",
      {
        url: "http://127.0.0.1:8787/raft",
        env: { QUORATE_PEER_SECRET: "", QUORATE_MEMBERS: "edge1=http://127.0.0.1:8787" },
      },
      "member:edge1",
    ],
    ["wants a certificate where one is required", { env: REQUIRED }, "403"],
    [
      "wants a good one",
      { env: REQUIRED, cf: { tlsClientAuth: { certVerified: "FAILED:expired" } } },
      "403",
    ],
    ["takes a good one", { env: REQUIRED, cf: verified }, "member:edge1"],
  ])("%s", async (_, call, answer) => {
    expect(await reached(call)).toBe(answer);
  });

  test.each(["edge1", "edge1=ftp://a:1", "edge1=https://a", "a=https://x:1,b=https://x:1"])(
    "refuses the setting %s by name",
    async (members) => {
      expect(await reached({ env: { QUORATE_MEMBERS: members } })).toContain("QUORATE_MEMBERS");
    },
  );
});
