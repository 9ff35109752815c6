/** The flags of TLS: those of the client ports, their `--peer-` twins, and what both share. */
import { flag, type Flag } from "./flag.ts";

const CLIENT: readonly Flag[] = [
  flag("cert-file", "text", "", "Certificate of the client ports (PEM)."),
  flag("key-file", "text", "", "Its key (PEM)."),
  flag("client-cert-file", "text", "", "Certificate for dialling client ports, if another."),
  flag("client-key-file", "text", "", "Its key."),
  flag("client-cert-auth", "boolean", "false", "Clients must show a certificate."),
  flag("trusted-ca-file", "text", "", "Who may sign clients' certificates (PEM)."),
  flag("client-crl-file", "text", "", "Revoked clients' certificates (PEM or DER)."),
  flag("client-cert-allowed-hostname", "text", "", "Host names clients' certificates must be for."),
  flag("auto-tls", "boolean", "false", "Makes a certificate for the client ports."),
];

const PEER: readonly Flag[] = [
  flag("peer-cert-file", "text", "", "Certificate of the peer port (PEM)."),
  flag("peer-key-file", "text", "", "Its key (PEM)."),
  flag("peer-client-cert-file", "text", "", "Certificate for dialling members, if another."),
  flag("peer-client-key-file", "text", "", "Its key."),
  flag("peer-client-cert-auth", "boolean", "false", "Members must show a certificate."),
  flag("peer-trusted-ca-file", "text", "", "Who may sign members' certificates (PEM)."),
  flag("peer-crl-file", "text", "", "Revoked members' certificates (PEM or DER)."),
  flag("peer-cert-allowed-cn", "text", "", "Common names that members' certificates may bear."),
  flag("peer-cert-allowed-hostname", "text", "", "Host names members' certificates must be for."),
  flag("peer-skip-client-san-verification", "boolean", "false", "Takes members from anywhere."),
  flag("peer-auto-tls", "boolean", "false", "Makes a certificate for the peer port."),
];

export const TLS_FLAGS: readonly Flag[] = [
  ...CLIENT,
  ...PEER,
  flag("self-signed-cert-validity", "integer", "1", "Years that certificates made here hold."),
  flag("cipher-suites", "text", "", "Cipher suites of TLS 1.2 by IANA's names, by commas."),
  flag("tls-min-version", "choice", "TLS1.2", "Least version.", ["TLS1.2", "TLS1.3"]),
  flag("tls-max-version", "choice", "", "Greatest version.", ["", "TLS1.2", "TLS1.3"]),
];

/** The sections of a config file that hold them, and what stands before the names there. */
export const TLS_SECTIONS: ReadonlyMap<string, "" | "peer-"> = new Map([
  ["client-transport-security", ""],
  ["peer-transport-security", "peer-"],
]);

/** A name within such a section, as a flag's: a few differ. */
export function sectionFlag(prefix: "" | "peer-", name: string): string {
  if (prefix === "peer-") return name.startsWith("allowed-") ? `peer-cert-${name}` : `peer-${name}`;
  return name === "crl-file" ? "client-crl-file" : name;
}
