/** The TLS flags, the sections of the config file that hold them, and refusals that name the flag. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseArguments, type Config } from "../../../../node-runner/config/config.ts";

function configOf(...args: string[]): Config {
  const parsed = parseArguments(args, {});
  if (parsed.action !== "run") throw new Error(`action ${parsed.action}`);
  return parsed.config;
}

const PEERS = [
  "--listen-peer-urls=https://h:1",
  "--initial-advertise-peer-urls=https://h:1",
  "--initial-cluster=default=https://h:1",
];
const CLIENTS = ["--listen-client-urls=https://h:2", "--advertise-client-urls=https://h:2"];
const FILES = ["--cert-file=c", "--key-file=k"];

test.each([
  [CLIENTS, "TLS key/cert (--cert-file, --key-file) must be provided for client url https://h:2"],
  [PEERS, "(--peer-cert-file, --peer-key-file) must be provided for peer url https://h:1"],
  [["--listen-metrics-urls=https://h:3"], "must be provided for metrics secure url"],
  [["--cert-file=c"], "--cert-file and --key-file must both be present"],
  [["--peer-client-key-file=c"], "--peer-client-cert-file and --peer-client-key-file"],
  [["--tls-min-version=TLS1.1"], '--tls-min-version is "TLS1.1"'],
  [["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"], "is above --tls-max-version"],
  [["--cipher-suites=TLS_NONE"], 'unexpected TLS cipher suite "TLS_NONE"'],
  [
    ["--cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA", "--tls-min-version=TLS1.3"],
    "cannot be configured when only TLS1.3 is enabled",
  ],
  [["--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b"], "mutually exclusive"],
])("%j is refused with a text that names the flag", (args, text) => {
  expect(() => configOf(...args)).toThrow(text);
});

test("https URLs with certificates, and --auto-tls, are taken", () => {
  const config = configOf(...CLIENTS, ...FILES, ...PEERS, "--peer-auto-tls");
  expect(config.listenClientUrls).toEqual([{ kind: "tcp", host: "h", port: 2, tls: true }]);
  expect(config.clientTls).toMatchObject({
    certFile: "c",
    keyFile: "k",
    auto: false,
    clientCertAuth: false,
    minVersion: "TLSv1.2",
    maxVersion: "TLSv1.3",
    ciphers: undefined,
  });
  expect(config.peerTls.auto).toBe(true);
});

test("cipher suites go by IANA's names; those of TLS 1.3 are always there", () => {
  const suites = [
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
  ];
  expect(configOf(`--cipher-suites=${suites.join(",")}`).clientTls.ciphers?.split(":")).toEqual([
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "AES256-SHA",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
  ]);
});

test("certificates beside plain URLs are a warning", () => {
  expect(configOf(...FILES).warnings).toEqual([
    "The scheme of client url http://localhost:2379 is HTTP while client key/cert files are presented. Ignored key/cert files.",
  ]);
});

test("a config file holds them in its two sections", () => {
  const folder = mkdtempSync(join(tmpdir(), "tls-config-"));
  const path = join(folder, "quorate.yml");
  writeFileSync(
    path,
    `
client-transport-security:
  cert-file: c
  key-file: k
  client-cert-auth: true
  trusted-ca-file: ca
peer-transport-security:
  auto-tls: true
  allowed-cn: member
`,
  );
  try {
    const { clientTls, peerTls } = configOf(`--config-file=${path}`);
    expect(clientTls).toMatchObject({ certFile: "c", clientCertAuth: true, trustedCaFile: "ca" });
    expect(peerTls).toMatchObject({ auto: true, allowedNames: ["member"] });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
