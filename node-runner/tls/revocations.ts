/** The list of revoked certificates (--client-crl-file): read anew for each connection, as it changes. */
// The X.509 library asks for it before it is loaded.
import "reflect-metadata";
import { readFileSync } from "node:fs";
import { X509Crl } from "@peculiar/x509";

/** The serial numbers, in small hexadecimal digits, that the list revokes. Throws what reading it throws. */
export function revokedSerials(path: string): ReadonlySet<string> {
  const bytes = readFileSync(path);
  // The parser takes DER as bytes, and PEM as text.
  const isPem = bytes.includes("-----BEGIN");
  const list = new X509Crl(isPem ? bytes.toString("utf8") : new Uint8Array(bytes));
  return new Set(list.entries.map((entry) => normalSerial(entry.serialNumber)));
}

/** Without leading zeros, in small letters: writers differ in both. */
export function normalSerial(serial: string): string {
  return serial.toLowerCase().replace(/^0+(?=.)/, "");
}
