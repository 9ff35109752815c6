/**
 * JSON Web Tokens (RFC 7515, 7519) checked with the keys of a JWK set (RFC 7517) by WebCrypto:
 * HS256, RS256, ES256 and EdDSA (Ed25519).
 *
 * The algorithm is the key's, never the token's word for it: a token is tried only with keys whose
 * algorithm is the one that it names, so `none` and a public key used as an HMAC secret have no
 * way in. `exp` must be there; `nbf`, `iss` and `aud` count when they are there or configured.
 * Permissions are the claim `quorate`:
 *
 *   { "sub": "app-7", "exp": 1900000000, "aud": "quorate",
 *     "quorate": { "read": ["config/", "app/7/"], "write": ["app/7/"], "tenant": "acme" } }
 *
 * `read` and `write` are prefixes of keys (the empty one is all keys), `tenant` says whose leases
 * it may use (`sub` if left out), `admin: true` allows everything.
 */
import { utf8 } from "../../shared/base/bytes.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import { decodeBase64, strictText } from "../encoding.ts";
import { invalidToken } from "./grant.ts";
import type { Grant } from "./grant.ts";
import { tenantOf } from "./tenant.ts";

export interface JwtSettings {
  /** A JWK or a JWK set, as JSON. */
  readonly keys: string;
  readonly issuer: string | undefined;
  readonly audience: string | undefined;
}

/** The settings can't be used: the operator's to mend. */
export class JwtSettingsError extends Error {
  override readonly name = "JwtSettingsError";
}

const ALGORITHMS = {
  HS256: {
    kty: "oct",
    members: ["k"],
    import: { name: "HMAC", hash: "SHA-256" },
    verify: { name: "HMAC" },
  },
  RS256: {
    kty: "RSA",
    members: ["n", "e"],
    import: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
    verify: { name: "RSASSA-PKCS1-v1_5" },
  },
  ES256: {
    kty: "EC",
    members: ["crv", "x", "y"],
    import: { name: "ECDSA", namedCurve: "P-256" },
    verify: { name: "ECDSA", hash: "SHA-256" },
  },
  EdDSA: {
    kty: "OKP",
    members: ["crv", "x"],
    import: { name: "Ed25519" },
    verify: { name: "Ed25519" },
  },
} as const;

type Algorithm = keyof typeof ALGORITHMS;
type Members = Readonly<Record<string, unknown>>;

interface VerifyingKey {
  readonly algorithm: Algorithm;
  readonly id: string | undefined;
  readonly key: Awaited<ReturnType<typeof crypto.subtle.importKey>>;
}

/** An HMAC secret shorter than its hash is weaker than its algorithm's name promises (RFC 7518). */
const SECRET_BYTES_MIN = 32;

export class JwtVerifier {
  readonly #settings: JwtSettings;
  #keys: Promise<readonly VerifyingKey[]> | undefined;

  constructor(settings: JwtSettings) {
    this.#settings = settings;
  }

  /** What a token allows at this time. Throws 401, or `JwtSettingsError`. */
  async verify(token: string, nowMilliseconds: number): Promise<Grant> {
    this.#keys ??= importKeys(this.#settings.keys);
    const keys = await this.#keys;
    if (token.length > LIMITS.jwtBytesMax) throw invalidToken("the token is too long");
    const [head = "", body = "", signature = "", ...rest] = token.split(".");
    if (rest.length > 0 || signature === "") throw invalidToken("the token is no signed JWT");
    const header = jsonOf(head);
    if (header["crit"] !== undefined) throw invalidToken("the token demands unknown extensions");
    const signed = Uint8Array.from(utf8(`${head}.${body}`));
    const bytes = Uint8Array.from(base64Of(signature));
    const candidates = keys.filter(
      ({ algorithm, id }) =>
        algorithm === algorithmOf(header["alg"]) &&
        (id === undefined || header["kid"] === undefined || id === header["kid"]),
    );
    let valid = false;
    for (const { algorithm, key } of candidates) {
      const how = ALGORITHMS[algorithm].verify;
      valid ||= await crypto.subtle.verify(how, key, bytes, signed).catch(() => false);
    }
    if (!valid) throw invalidToken("the token's signature fits none of the keys");
    return this.#grantOf(jsonOf(body), nowMilliseconds);
  }

  async #grantOf(claims: Members, now: number): Promise<Grant> {
    const { issuer, audience } = this.#settings;
    const { exp, nbf, iss, aud, sub } = claims;
    const leeway = LIMITS.jwtLeewayMilliseconds;
    if (typeof exp !== "number") throw invalidToken("the token has no expiry (exp)");
    const expiresAt = exp * 1000 + leeway;
    if (!(now < expiresAt)) throw invalidToken("the token has expired");
    if (nbf !== undefined && !(typeof nbf === "number" && now + leeway >= nbf * 1000)) {
      throw invalidToken("the token is not valid yet (nbf)");
    }
    if (issuer !== undefined && iss !== issuer) throw invalidToken("the token's issuer is another");
    const audiences: readonly unknown[] = Array.isArray(aud) ? aud : [aud];
    const intended = audience === undefined ? aud === undefined : audiences.includes(audience);
    if (!intended) throw invalidToken("the token is meant for somebody else (aud)");
    if (sub !== undefined && typeof sub !== "string") throw invalidToken("sub is no text");
    const { read, write, tenant = sub, admin = false } = membersOf(claims["quorate"] ?? {});
    if (tenant !== undefined && typeof tenant !== "string") throw invalidToken("tenant is no text");
    if (typeof admin !== "boolean") throw invalidToken("admin is no boolean");
    return {
      caller: `${sub ?? ""}@${tenant ?? ""}`,
      admin,
      read: prefixesOf(read),
      write: prefixesOf(write),
      tenant: tenant === undefined || tenant === "" ? undefined : await tenantOf(tenant),
      expiresAt,
    };
  }
}

function prefixesOf(value: unknown): Bytes[] {
  if (value === undefined) return [];
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (list.length > LIMITS.jwtPrefixesMax) throw invalidToken("the token names too many prefixes");
  return list.map((prefix) => {
    if (typeof prefix !== "string") throw invalidToken("read and write are lists of prefixes");
    return utf8(prefix);
  });
}

function membersOf(value: unknown): Members {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalidToken("the token is malformed: no JSON object where one is due");
  }
  return value as Members;
}

function jsonOf(part: string): Members {
  const text = strictText(base64Of(part));
  try {
    return membersOf(JSON.parse(text ?? "") as unknown);
  } catch {
    throw invalidToken("the token is malformed: a part of it is no JSON object");
  }
}

/** RFC 9864 calls EdDSA by its curve. */
function algorithmOf(name: unknown): unknown {
  return name === "Ed25519" ? "EdDSA" : name;
}

/** URL-safe base64 without padding, as JWS has it. */
function base64Of(part: string): Bytes {
  if (!/^[\w-]*$/.test(part)) throw invalidToken("the token is malformed: no base64url");
  try {
    return decodeBase64(part, "the token");
  } catch {
    throw invalidToken("the token is malformed: no base64url");
  }
}

async function importKeys(text: string): Promise<readonly VerifyingKey[]> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new JwtSettingsError("the keys for tokens are no JSON: give a JWK or a JWK set");
  }
  const listed = (value as { keys?: unknown } | null)?.keys;
  const list: readonly unknown[] = Array.isArray(listed) ? listed : [value];
  const keys: VerifyingKey[] = [];
  for (const each of list) keys.push(await importKey(each));
  if (keys.length === 0) throw new JwtSettingsError("the JWK set holds no key");
  return keys;
}

async function importKey(value: unknown): Promise<VerifyingKey> {
  const jwk = (typeof value === "object" && value !== null ? value : {}) as Members;
  const names = Object.keys(ALGORITHMS) as Algorithm[];
  const algorithm = names.find(
    (name) =>
      ALGORITHMS[name].kty === jwk["kty"] &&
      (jwk["alg"] === undefined || algorithmOf(jwk["alg"]) === name),
  );
  if (algorithm === undefined) {
    const known = names.map((name) => `${ALGORITHMS[name].kty} for ${name}`).join(", ");
    throw new JwtSettingsError(`a key is none of: ${known}`);
  }
  const { kty, members } = ALGORITHMS[algorithm];
  if (kty === "oct" && base64Of(String(jwk["k"])).length < SECRET_BYTES_MIN) {
    throw new JwtSettingsError(`an HS256 secret has ${SECRET_BYTES_MIN} bytes or more`);
  }
  // The public members alone: a private key given by mistake isn't kept.
  const known = members.flatMap((name) => (jwk[name] === undefined ? [] : [[name, jwk[name]]]));
  const data = { kty, ...(Object.fromEntries(known) as object) };
  try {
    const how = ALGORITHMS[algorithm].import;
    const key = await crypto.subtle.importKey("jwk", data, how, false, ["verify"]);
    return { algorithm, id: typeof jwk["kid"] === "string" ? jwk["kid"] : undefined, key };
  } catch (cause) {
    throw new JwtSettingsError(`a key for ${algorithm} can't be read`, { cause });
  }
}
