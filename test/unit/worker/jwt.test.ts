/** worker/auth/jwt: which tokens are taken, and what they allow. */
import { beforeAll, describe, expect, test } from "vitest";
import { textOf, utf8 } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import { JwtVerifier } from "../../../worker/auth/jwt.ts";
import { HttpError } from "../../../worker/problem.ts";
import { makeKey } from "../../support/tokens.ts";
import type { TokenAlgorithm, TokenKey } from "../../support/tokens.ts";

const NOW = 1_800_000_000;
const CLAIMS = { sub: "app", exp: NOW + 60, quorate: { read: ["a/"], write: ["a/b/"] } };

const keys = new Map<TokenAlgorithm, TokenKey>();
const keyOf = (algorithm: TokenAlgorithm): TokenKey => keys.get(algorithm) as TokenKey;

beforeAll(async () => {
  for (const algorithm of ["HS256", "RS256", "ES256", "EdDSA"] as const) {
    keys.set(algorithm, await makeKey(algorithm, `key-${algorithm}`));
  }
});

function verifier(settings: { issuer?: string; audience?: string; keys?: string } = {}) {
  const set = JSON.stringify({ keys: [...keys.values()].map(({ jwk }) => jwk) });
  const { issuer, audience } = settings;
  const verifying = new JwtVerifier({ keys: settings.keys ?? set, issuer, audience });
  return (token: string, seconds = NOW) => verifying.verify(token, seconds * 1000);
}

const refusal = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => expect.unreachable("it was taken"),
    (error: unknown) => {
      expect(error).toBeInstanceOf(HttpError);
      expect((error as HttpError).status).toBe(401);
      expect((error as HttpError).headers["www-authenticate"]).toContain("invalid_token");
      return (error as HttpError).message;
    },
  );

describe("signatures", () => {
  test.each(["HS256", "RS256", "ES256", "EdDSA"] as const)("%s is taken", async (algorithm) => {
    const grant = await verifier()(await keyOf(algorithm).sign(CLAIMS));
    expect(grant.read.map(textOf)).toEqual(["a/"]);
    expect(grant.write.map(textOf)).toEqual(["a/b/"]);
    expect([grant.admin, grant.tenant?.name]).toEqual([false, "app"]);
    expect(grant.expiresAt).toBe((NOW + 60) * 1000 + LIMITS.jwtLeewayMilliseconds);
  });

  test.each(["HS256", "RS256", "ES256", "EdDSA"] as const)(
    "%s with a changed claim, signature or key is refused",
    async (algorithm) => {
      const verify = verifier();
      const token = await keyOf(algorithm).sign(CLAIMS);
      const [head, body, signature] = token.split(".");
      const claims = Buffer.from(JSON.stringify({ ...CLAIMS, quorate: { admin: true } })).toString(
        "base64url",
      );
      const flipped = (signature?.startsWith("A") === true ? "B" : "A") + signature?.slice(1);
      const other = await makeKey(algorithm, `key-${algorithm}`);
      for (const wrong of [
        `${head}.${claims}.${signature}`,
        `${head}.${body}.${flipped}`,
        await other.sign(CLAIMS),
      ]) {
        expect(await refusal(verify(wrong))).toContain("fits none of the keys");
      }
    },
  );

  test("no signature, and a public key as a secret, have no way in", async () => {
    const verify = verifier();
    const [, body] = (await keyOf("RS256").sign(CLAIMS)).split(".");
    const none = Buffer.from('{"alg":"none"}').toString("base64url");
    expect(await refusal(verify(`${none}.${body}.`))).toContain("no signed JWT");
    expect(await refusal(verify(`${none}.${body}.AAAA`))).toContain("none of the keys");
    // HS256 under the public key's own bytes, which anybody has.
    const secret = Uint8Array.from(utf8(JSON.stringify(keyOf("RS256").jwk)));
    const hmac = { name: "HMAC", hash: "SHA-256" };
    const key = await crypto.subtle.importKey("raw", secret, hmac, false, ["sign"]);
    const head = Buffer.from('{"alg":"HS256","kid":"key-RS256"}').toString("base64url");
    const text = Uint8Array.from(utf8(`${head}.${body}`));
    const signature = Buffer.from(await crypto.subtle.sign(hmac, key, text)).toString("base64url");
    expect(await refusal(verify(`${head}.${body}.${signature}`))).toContain("none of the keys");
  });

  test("a key id picks its key; without one all of the algorithm are tried", async () => {
    const verify = verifier();
    const key = keyOf("ES256");
    expect(await refusal(verify(await key.sign(CLAIMS, { kid: "another" })))).toContain("none of");
    await verify(await key.sign(CLAIMS, { kid: undefined }));
    expect(await refusal(verify(await key.sign(CLAIMS, { crit: ["x"] })))).toContain("extensions");
  });
});

describe("claims", () => {
  test.each<[string, object, string]>([
    ["no expiry", { exp: undefined }, "no expiry"],
    ["an expiry in the past", { exp: NOW - 31 }, "has expired"],
    ["an expiry that is text", { exp: "2999" }, "no expiry"],
    ["a beginning in the future", { nbf: NOW + 31 }, "not valid yet"],
    ["a beginning that is text", { nbf: "0" }, "not valid yet"],
    ["another issuer", { iss: "mallory" }, "issuer"],
    ["no issuer", { iss: undefined }, "issuer"],
    ["another audience", { aud: ["x", "y"] }, "somebody else"],
    ["no audience", { aud: undefined }, "somebody else"],
    ["permissions that are no object", { quorate: [] }, "malformed"],
    ["prefixes that are no text", { quorate: { read: [1] } }, "lists of prefixes"],
    ["too many prefixes", { quorate: { read: Array<string>(65).fill("x") } }, "too many"],
    ["a tenant that is no text", { quorate: { tenant: 5 } }, "tenant"],
    ["admin that is no boolean", { quorate: { admin: "yes" } }, "admin"],
  ])("%s is refused", async (_, claims, text) => {
    const verify = verifier({ issuer: "us", audience: "edge" });
    const whole = { ...CLAIMS, iss: "us", aud: "edge" };
    const key = keyOf("HS256");
    await verify(await key.sign(whole));
    expect(await refusal(verify(await key.sign({ ...whole, ...claims })))).toContain(text);
  });

  test("clocks may differ a little", async () => {
    const key = keyOf("HS256");
    await verifier()(await key.sign({ ...CLAIMS, exp: NOW - 29 }));
    await verifier()(await key.sign({ ...CLAIMS, nbf: NOW + 29 }));
  });

  test("a token for an audience is refused where none is configured (RFC 7519, 4.1.3)", async () => {
    const token = await keyOf("HS256").sign({ ...CLAIMS, aud: "another service" });
    expect(await refusal(verifier()(token))).toContain("somebody else");
  });

  test("one of several audiences is enough; without permissions nothing is allowed", async () => {
    const token = await keyOf("HS256").sign({ exp: NOW + 1, aud: ["x", "edge"] });
    const grant = await verifier({ audience: "edge" })(token);
    expect(grant).toMatchObject({ admin: false, read: [], write: [], tenant: undefined });
  });
});

test.each(["", "x", "a.b", "a.b.c", "a.b.c.d", "..", "e30.e30.AA", "%.%.%", "W10.e30.AA"])(
  "%j is no token",
  async (token) => {
    await refusal(verifier()(token));
  },
);

test("a token that is too long is refused before it is looked at", async () => {
  expect(await refusal(verifier()("x".repeat(LIMITS.jwtBytesMax + 1)))).toContain("too long");
});

test.each([
  ["no JSON", "no JSON"],
  ['{"keys":[]}', "no key"],
  ['{"kty":"oct","k":"c2hvcnQ"}', "32 bytes"],
  ['{"kty":"oct","alg":"HS512","k":"c2hvcnQ"}', "none of"],
  ['{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}', "can't be read"],
])("keys %s are refused to the operator", async (text, message) => {
  const token = await keyOf("HS256").sign(CLAIMS);
  await expect(verifier({ keys: text })(token)).rejects.toThrow(message);
});
