/**
 * Whether a caller's certificate lets it in: signed by a trusted authority, not revoked, of an
 * allowed name, and shown from an address that it is for. The rules and texts are etcd's.
 */
import { X509Certificate } from "node:crypto";
import { lookup, reverse } from "node:dns/promises";
import { isIP } from "node:net";
import type { PeerCertificate, TLSSocket } from "node:tls";
import type { TlsSettings } from "./tls-settings.ts";

export const NOT_ALLOWED = "client certificate authentication failed";

/** Undefined: it may come in; else why not. */
export async function certificateRefusal(
  socket: TLSSocket,
  settings: TlsSettings,
  isNeeded: boolean,
): Promise<string | undefined> {
  if (!isNeeded) return undefined;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return "tls: client didn't provide a certificate";
  if (!socket.authorized) {
    return `tls: failed to verify certificate: ${String(socket.authorizationError)}`;
  }
  if (settings.crlFile !== undefined) {
    const { normalSerial, revokedSerials } = await import("./revocations.ts");
    const serial = normalSerial(certificate.serialNumber);
    if (revokedSerials(settings.crlFile).has(serial)) {
      return `transport: certificate serial ${serial} revoked`;
    }
  }
  if (!isAllowed(certificate.toLegacyObject(), settings)) return NOT_ALLOWED;
  const address = socket.remoteAddress;
  return settings.checkAddress && address !== undefined
    ? addressRefusal(certificate, address)
    : undefined;
}

/** Whether its common name, or a host name that it is valid for, is among those allowed. */
export function isAllowed(certificate: PeerCertificate, settings: TlsSettings): boolean {
  const { allowedNames, allowedHostnames } = settings;
  if (allowedNames.length > 0 && !allowedNames.includes(String(certificate.subject.CN))) {
    return false;
  }
  if (allowedHostnames.length === 0) return true;
  const parsed = new X509Certificate(certificate.raw);
  return allowedHostnames.some((host) =>
    isIP(host) === 0 ? parsed.checkHost(host) !== undefined : parsed.checkIP(host) !== undefined,
  );
}

/** A certificate that names addresses or hosts is taken from those alone. */
async function addressRefusal(
  certificate: X509Certificate,
  remoteAddress: string,
): Promise<string | undefined> {
  const address = remoteAddress.replace(/^::ffff:/, "");
  const names = (certificate.subjectAltName ?? "").split(", ");
  const hosts = names.filter((name) => name.startsWith("DNS:")).map((name) => name.slice(4));
  const hasAddresses = names.some((name) => name.startsWith("IP Address:"));
  if (hosts.length === 0 && !hasAddresses) return undefined;
  if (hasAddresses && certificate.checkIP(address) !== undefined) return undefined;
  if (hosts.length > 0 && (await belongsTo(address, hosts))) return undefined;
  return `tls: "${address}" matches no name of the certificate: ${names.join(", ")}`;
}

/** Whether the address is one of these hosts by DNS, in either direction. `*.` stands for any label. */
async function belongsTo(address: string, hosts: readonly string[]): Promise<boolean> {
  const found = await reverse(address).catch(() => []);
  const matches = (host: string, name: string): boolean =>
    host.startsWith("*.") ? name.endsWith(host.slice(1)) : name === host;
  if (found.some((name) => hosts.some((host) => matches(host, name.replace(/\.$/, ""))))) {
    return true;
  }
  for (const host of hosts) {
    if (host.startsWith("*.")) continue;
    const addresses = await lookup(host, { all: true }).catch(() => []);
    if (addresses.some((each) => each.address === address)) return true;
  }
  return false;
}
