/** A certificate authority of the tests: servers', clients' and members' certificates, and a list of revoked ones. */
// The X.509 library asks for it before it is loaded.
import "reflect-metadata";
import { randomBytes, webcrypto } from "node:crypto";
import { writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
  X509CrlGenerator,
  X509CrlReason,
} from "@peculiar/x509";
import type { X509Certificate } from "@peculiar/x509";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DAY_MILLISECONDS = 24 * 60 * 60 * 1000;

/** Paths of a certificate and its key, and the serial number in hexadecimal. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
  readonly serial: string;
}

export class CertificateAuthority {
  readonly #folder: string;
  readonly #keys: webcrypto.CryptoKeyPair;
  readonly #certificate: X509Certificate;
  /** Path of its own certificate. */
  readonly caFile: string;

  /** Writes its files to this folder. */
  static async create(folder: string, name = "ca"): Promise<CertificateAuthority> {
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
    const certificate = await X509CertificateGenerator.createSelfSigned(
      {
        serialNumber: randomSerial(),
        name: `CN=${name}`,
        ...validity(),
        signingAlgorithm: ALGORITHM,
        keys,
        extensions: [new BasicConstraintsExtension(true, undefined, true)],
      },
      webcrypto,
    );
    return new CertificateAuthority(folder, name, { keys, certificate });
  }

  private constructor(
    folder: string,
    name: string,
    own: { keys: webcrypto.CryptoKeyPair; certificate: X509Certificate },
  ) {
    this.#folder = folder;
    this.#keys = own.keys;
    this.#certificate = own.certificate;
    this.caFile = join(folder, `${name}.pem`);
    writeFileSync(this.caFile, own.certificate.toString("pem"));
  }

  /** A certificate for servers and clients alike, valid for these hosts. */
  async issue(commonName: string, hosts: readonly string[] = []): Promise<CertificateFiles> {
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
    const serial = randomSerial();
    const names = hosts.map(
      (value) => ({ type: isIP(value) === 0 ? "dns" : "ip", value }) as const,
    );
    const certificate = await X509CertificateGenerator.create(
      {
        serialNumber: serial,
        subject: `CN=${commonName}`,
        issuer: this.#certificate.subject,
        ...validity(),
        signingAlgorithm: ALGORITHM,
        publicKey: keys.publicKey,
        signingKey: this.#keys.privateKey,
        extensions: [
          new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
          ...(names.length === 0 ? [] : [new SubjectAlternativeNameExtension(names)]),
        ],
      },
      webcrypto,
    );
    const files = {
      cert: join(this.#folder, `${serial}.pem`),
      key: join(this.#folder, `${serial}-key.pem`),
      serial,
    };
    const key = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
    writeFileSync(files.cert, certificate.toString("pem"));
    writeFileSync(files.key, PemConverter.encode(key, "PRIVATE KEY"));
    return files;
  }

  /** The path of a list that revokes these certificates, in DER. */
  async revoke(certificates: readonly CertificateFiles[]): Promise<string> {
    const list = await X509CrlGenerator.create(
      {
        issuer: this.#certificate.subject,
        thisUpdate: new Date(),
        nextUpdate: new Date(Date.now() + DAY_MILLISECONDS),
        signingAlgorithm: ALGORITHM,
        signingKey: this.#keys.privateKey,
        entries: certificates.map(({ serial }) => ({
          serialNumber: serial,
          revocationDate: new Date(),
          reason: X509CrlReason.keyCompromise,
        })),
      },
      webcrypto,
    );
    const path = join(this.#folder, "revoked.crl");
    writeFileSync(path, new Uint8Array(list.rawData));
    return path;
  }
}

function validity() {
  const now = Date.now();
  return {
    notBefore: new Date(now - DAY_MILLISECONDS),
    notAfter: new Date(now + DAY_MILLISECONDS),
  };
}

/** Positive, as the first octet is below 128. */
function randomSerial(): string {
  return `01${randomBytes(15).toString("hex")}`;
}
