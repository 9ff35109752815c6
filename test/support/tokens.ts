/** Keys and tokens for tests: JWTs of every algorithm that the edge takes, signed by WebCrypto. */
import { utf8 } from "../../shared/base/bytes.ts";

export type TokenAlgorithm = "HS256" | "RS256" | "ES256" | "EdDSA";

const PARAMETERS = {
  HS256: [{ name: "HMAC", hash: "SHA-256", length: 256 }, { name: "HMAC" }],
  RS256: [
    {
      name: "RSASSA-PKCS1-v1_5",
      hash: "SHA-256",
      modulusLength: 2048,
      publicExponent: Uint8Array.of(1, 0, 1),
    },
    { name: "RSASSA-PKCS1-v1_5" },
  ],
  ES256: [
    { name: "ECDSA", namedCurve: "P-256" },
    { name: "ECDSA", hash: "SHA-256" },
  ],
  EdDSA: [{ name: "Ed25519" }, { name: "Ed25519" }],
} as const;

export interface TokenKey {
  readonly algorithm: TokenAlgorithm;
  readonly keyId: string;
  /** What the edge is told: a public key, or the shared secret. */
  readonly jwk: Readonly<Record<string, unknown>>;
  /** A token with these claims; `header` replaces parts of its header. */
  sign(claims: object, header?: object): Promise<string>;
}

const part = (value: Uint8Array | string): string =>
  Buffer.from(typeof value === "string" ? utf8(value) : value).toString("base64url");

export async function makeKey(algorithm: TokenAlgorithm, keyId: string): Promise<TokenKey> {
  const [make, how] = PARAMETERS[algorithm];
  const made = await crypto.subtle.generateKey(make, true, ["sign", "verify"]);
  const [signing, shown] = "privateKey" in made ? [made.privateKey, made.publicKey] : [made, made];
  const jwk = { ...(await crypto.subtle.exportKey("jwk", shown)), kid: keyId };
  return {
    algorithm,
    keyId,
    jwk,
    async sign(claims, header = {}) {
      const head = part(JSON.stringify({ alg: algorithm, typ: "JWT", kid: keyId, ...header }));
      const body = part(JSON.stringify(claims));
      const signed = Uint8Array.from(utf8(`${head}.${body}`));
      const signature = await crypto.subtle.sign(how, signing, signed);
      return `${head}.${body}.${part(new Uint8Array(signature))}`;
    },
  };
}

/** Seconds since 1970, so many from now. */
export function secondsFromNow(seconds: number): number {
  return Math.floor(Date.now() / 1000) + seconds;
}
