/** From the TLS flags to checked settings of the client and the peer ports. */
import { getCiphers, type SecureVersion } from "node:tls";
import { hasCertificate, type TlsSettings } from "../tls/tls-settings.ts";
import { ConfigError } from "./config-error.ts";
import { urlOf, type ListenAddress } from "./url.ts";
import type { Values } from "./values.ts";

export interface TlsConfig {
  readonly clientTls: TlsSettings;
  readonly peerTls: TlsSettings;
}

interface Listening {
  readonly listenClientUrls: readonly ListenAddress[];
  readonly listenClientHttpUrls: readonly ListenAddress[];
  readonly listenMetricsUrls: readonly ListenAddress[];
  readonly listenPeerUrls: readonly ListenAddress[];
}

export function tlsOf(values: Values, listening: Listening, warnings: string[]): TlsConfig {
  const clientTls = settingsOf(values, "");
  const peerTls = settingsOf(values, "peer-");
  const { listenClientUrls, listenClientHttpUrls, listenPeerUrls } = listening;
  checkUrls([...listenClientUrls, ...listenClientHttpUrls], clientTls, warnings);
  checkUrls(listenPeerUrls, peerTls, warnings);
  if (listening.listenMetricsUrls.some(isSecure) && !hasCertificate(clientTls)) {
    throw new ConfigError(
      "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
    );
  }
  return { clientTls, peerTls };
}

function settingsOf(values: Values, prefix: "" | "peer-"): TlsSettings {
  const path = (name: string): string | undefined => values.text(`${prefix}${name}`) || undefined;
  const isPeer = prefix === "peer-";
  const settings: TlsSettings = {
    flagPrefix: prefix,
    certFile: path("cert-file"),
    keyFile: path("key-file"),
    clientCertFile: path("client-cert-file"),
    clientKeyFile: path("client-key-file"),
    trustedCaFile: path("trusted-ca-file"),
    clientCertAuth: values.boolean(`${prefix}client-cert-auth`),
    crlFile: isPeer ? path("crl-file") : path("client-crl-file"),
    allowedNames: isPeer ? values.urls("peer-cert-allowed-cn") : [],
    allowedHostnames: values.urls(
      isPeer ? "peer-cert-allowed-hostname" : "client-cert-allowed-hostname",
    ),
    checkAddress: !isPeer || !values.boolean("peer-skip-client-san-verification"),
    auto: values.boolean(`${prefix}auto-tls`) && path("cert-file") === undefined,
    validityYears: values.integer("self-signed-cert-validity", { min: 1, max: 100 }),
    ...versionsOf(values),
  };
  checkPair(settings.certFile, settings.keyFile, `--${prefix}cert-file and --${prefix}key-file`);
  checkPair(
    settings.clientCertFile,
    settings.clientKeyFile,
    `--${prefix}client-cert-file and --${prefix}client-key-file`,
  );
  if (settings.allowedNames.length > 0 && settings.allowedHostnames.length > 0) {
    throw new ConfigError(
      "--peer-cert-allowed-cn and --peer-cert-allowed-hostname are mutually exclusive: drop one of the two",
    );
  }
  return settings;
}

function checkPair(first: string | undefined, second: string | undefined, names: string): void {
  if ((first === undefined) === (second === undefined)) return;
  throw new ConfigError(`${names} must both be present or both absent`);
}

function versionsOf(values: Values): Pick<TlsSettings, "ciphers" | "minVersion" | "maxVersion"> {
  const minVersion = versionOf(values.choice("tls-min-version", ["TLS1.2", "TLS1.3"]));
  const max = values.choice("tls-max-version", ["", "TLS1.2", "TLS1.3"]);
  const maxVersion = max === "" ? "TLSv1.3" : versionOf(max);
  if (minVersion > maxVersion) {
    throw new ConfigError(
      "--tls-min-version is above --tls-max-version: min version must not be greater than max version",
    );
  }
  const names = values.urls("cipher-suites");
  if (names.length > 0 && minVersion === "TLSv1.3") {
    throw new ConfigError(
      "--cipher-suites: cipher suites cannot be configured when only TLS1.3 is enabled",
    );
  }
  return {
    minVersion,
    maxVersion,
    ciphers: names.length === 0 ? undefined : [...names.map(cipherOf), ...TLS13_CIPHERS].join(":"),
  };
}

const versionOf = (text: "TLS1.2" | "TLS1.3"): SecureVersion =>
  `TLSv${text.slice(3)}` as SecureVersion;

/** Those of TLS 1.3 can't be chosen, as in etcd. */
const TLS13_CIPHERS: readonly string[] = [
  "TLS_AES_128_GCM_SHA256",
  "TLS_AES_256_GCM_SHA384",
  "TLS_CHACHA20_POLY1305_SHA256",
];

/** OpenSSL's name of a suite of TLS 1.2: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 is ECDHE-RSA-AES128-GCM-SHA256. */
function cipherOf(name: string): string {
  if (TLS13_CIPHERS.includes(name)) return name;
  const parts = /^TLS_(?:RSA|(ECDHE_(?:RSA|ECDSA)))_WITH_(.+)$/.exec(name);
  const exchange = parts?.[1] === undefined ? "" : `${parts[1].replace("_", "-")}-`;
  const cipher = (parts?.[2] ?? "")
    .replace(/^AES_(\d+)_/, "AES$1-")
    .replace(/CBC_/, "")
    .replace(/^CHACHA20_POLY1305_SHA256$/, "CHACHA20_POLY1305")
    .replaceAll("_", "-");
  const known = `${exchange}${cipher}`;
  if (parts === null || !getCiphers().includes(known.toLowerCase())) {
    throw new ConfigError(`--cipher-suites: unexpected TLS cipher suite "${name}"`);
  }
  return known;
}

const isSecure = (address: ListenAddress): boolean => address.tls;

function checkUrls(
  addresses: readonly ListenAddress[],
  settings: TlsSettings,
  warnings: string[],
): void {
  const { flagPrefix } = settings;
  const kind = flagPrefix === "" ? "client" : "peer";
  const flags = `--${flagPrefix}cert-file, --${flagPrefix}key-file`;
  for (const address of addresses) {
    if (address.tls && !hasCertificate(settings)) {
      throw new ConfigError(
        `TLS key/cert (${flags}) must be provided for ${kind} url ${urlOf(address)} with HTTPS scheme`,
      );
    }
    if (!address.tls && settings.certFile !== undefined) {
      warnings.push(
        `The scheme of ${kind} url ${urlOf(address)} is HTTP while ${kind} key/cert files are presented. Ignored key/cert files.`,
      );
    }
  }
}
