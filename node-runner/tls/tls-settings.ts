/**
 * What the configuration says about TLS of one kind of port (for clients, or for the other
 * members): paths of files, and which certificates are let in.
 */
import type { SecureVersion } from "node:tls";

export interface TlsSettings {
  /** Says in messages which flags are meant: "" or "peer-". */
  readonly flagPrefix: "" | "peer-";
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
  /** Shown when this member dials; without them the two above are. */
  readonly clientCertFile: string | undefined;
  readonly clientKeyFile: string | undefined;
  readonly trustedCaFile: string | undefined;
  /** Whether callers must show a certificate that the trusted CA signed. */
  readonly clientCertAuth: boolean;
  /** PEM or DER list of revoked certificates. */
  readonly crlFile: string | undefined;
  /** Common names that a certificate may bear; empty: any. */
  readonly allowedNames: readonly string[];
  /** Host names of which a certificate must be valid for one; empty: any. */
  readonly allowedHostnames: readonly string[];
  /** Whether a caller's address must be among those that its certificate names, if it names any. */
  readonly checkAddress: boolean;
  /** Certificates are made at start, and nobody's is checked. */
  readonly auto: boolean;
  /** How long a certificate that is made at start holds. */
  readonly validityYears: number;
  /** Names of cipher suites as IANA writes them, by colons; undefined: the runtime's choice. */
  readonly ciphers: string | undefined;
  readonly minVersion: SecureVersion;
  readonly maxVersion: SecureVersion;
}

/** Whether there is a certificate to serve TLS with. */
export function hasCertificate(settings: TlsSettings): boolean {
  return settings.auto || (settings.certFile !== undefined && settings.keyFile !== undefined);
}
