/**
 * Certificates that a member makes for itself (--auto-tls, --peer-auto-tls): they keep listeners
 * out, but prove nobody's identity. They stay in the data directory, so that a restart shows the
 * same one.
 */
// The X.509 library asks for it before it is loaded.
import "reflect-metadata";
import { randomBytes, webcrypto } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";

export interface SelfSignedOptions {
  /** Holds `cert.pem` and `key.pem`; made if it isn't there. */
  readonly folder: string;
  /** Names and addresses that the certificate is for. */
  readonly hosts: readonly string[];
  readonly validityYears: number;
  /** Milliseconds since 1970. */
  readonly now: number;
}

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const YEAR_MILLISECONDS = 365 * 24 * 60 * 60 * 1000;

/** The paths of a certificate and its key; both are made if they aren't there. */
export async function ensureSelfSigned(
  options: SelfSignedOptions,
): Promise<{ certFile: string; keyFile: string }> {
  const { folder } = options;
  const files = { certFile: join(folder, "cert.pem"), keyFile: join(folder, "key.pem") };
  if (existsSync(files.certFile) && existsSync(files.keyFile)) return files;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const { certificate, key } = await selfSigned(options);
  writeWhole(files.keyFile, key, 0o600);
  writeWhole(files.certFile, certificate, 0o644);
  return files;
}

async function selfSigned({ hosts, validityYears, now }: SelfSignedOptions) {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: randomBytes(16).toString("hex"),
      name: "O=quorate",
      notBefore: new Date(now),
      notAfter: new Date(now + validityYears * YEAR_MILLISECONDS),
      signingAlgorithm: ALGORITHM,
      keys,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(
          KeyUsageFlags.digitalSignature | KeyUsageFlags.keyEncipherment,
          true,
        ),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
        new SubjectAlternativeNameExtension(
          [...new Set(hosts)].map((value) => ({ type: isIP(value) === 0 ? "dns" : "ip", value })),
        ),
      ],
    },
    webcrypto,
  );
  const key = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return { certificate: certificate.toString("pem"), key: PemConverter.encode(key, "PRIVATE KEY") };
}

/** A file is there whole or not at all. */
function writeWhole(path: string, text: string, mode: number): void {
  const unfinished = `${path}.tmp`;
  writeFileSync(unfinished, `${text}\n`, { mode });
  chmodSync(unfinished, mode);
  renameSync(unfinished, path);
}
