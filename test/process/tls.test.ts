/**
 * TLS on the ports of real members: etcdctl, Node's own clients and the other members against
 * certificates that are good, missing, of another authority, of a wrong name, revoked or renewed.
 */
import { execFile } from "node:child_process";
import { copyFileSync } from "node:fs";
import { request } from "node:https";
import { connect } from "node:tls";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { CertificateAuthority, type CertificateFiles } from "../support/certificates.ts";
import { READY_TEXT, startQuorate, type Cluster, type ClusterOptions } from "../support/cluster.ts";
import { errorLines, logLines } from "../support/process-log.ts";
import { makeTempDir, removeTempDir } from "../support/temp-dir.ts";
import { describeWithTools } from "../support/tools.ts";

const run = promisify(execFile);

let folder: string;
let authority: CertificateAuthority;
let server: CertificateFiles;
let client: CertificateFiles;
let cluster: Cluster | undefined;

beforeAll(async () => {
  folder = makeTempDir("tls");
  authority = await CertificateAuthority.create(folder);
  server = await authority.issue("server", ["127.0.0.1", "localhost"]);
  client = await authority.issue("client");
});

afterEach(async () => {
  await cluster?.stop();
  cluster = undefined;
});

afterAll(() => removeTempDir(folder));

async function start(options: ClusterOptions): Promise<Cluster> {
  cluster = await startQuorate(options);
  return cluster;
}

/** The flags of a port's certificate; `prefix` "peer-" for the peer port's. */
const certificateFlags = (prefix: "" | "peer-", files: CertificateFiles): string[] => [
  `--${prefix}cert-file=${files.cert}`,
  `--${prefix}key-file=${files.key}`,
];

const authFlags = (prefix: "" | "peer-"): string[] => [
  `--${prefix}client-cert-auth`,
  `--${prefix}trusted-ca-file=${authority.caFile}`,
];

function first(of: Cluster) {
  const [member] = of.members;
  if (member === undefined) throw new Error("no member");
  return member;
}

/** Runs etcdctl over TLS; the rest of its arguments come as given. One that is refused goes on trying. */
async function etcdctl(
  address: string,
  args: readonly string[],
  files?: CertificateFiles,
  seconds = 60,
) {
  const shown = files === undefined ? [] : [`--cert=${files.cert}`, `--key=${files.key}`];
  const { stdout } = await run(
    "etcdctl",
    [
      `--endpoints=https://${address}`,
      `--cacert=${authority.caFile}`,
      ...shown,
      `--dial-timeout=${seconds}s`,
      `--command-timeout=${seconds}s`,
      ...args,
    ],
    { env: { ...process.env, ETCDCTL_API: "3" }, timeout: 90_000 },
  );
  return stdout.trim();
}

const refused = (address: string, files?: CertificateFiles) =>
  expect(etcdctl(address, ["get", "a"], files, 3)).rejects.toThrow();

/** A GET over HTTP/1.1 without checking the server's certificate. */
function getText(address: string, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const call = request(`https://${address}${path}`, { rejectUnauthorized: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => (text += part));
      response.on("end", () => resolve(text));
    });
    call.on("error", reject);
    call.end();
  });
}

/** The serial number of the certificate that a port shows. */
function shownSerial(address: string): Promise<string> {
  const [host = "", port = ""] = address.split(":");
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: Number(port), rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().serialNumber.toLowerCase());
      socket.destroy();
    });
    socket.on("error", reject);
  });
}

describeWithTools(["etcdctl"], "client ports", () => {
  test("etcdctl reads and writes with the authority's certificate; HTTP/1.1 shares the port", async () => {
    const { address, child } = first(
      await start({ tls: ["client"], flags: certificateFlags("", server) }),
    );
    expect(await etcdctl(address, ["put", "a", "1"])).toBe("OK");
    expect(await etcdctl(address, ["get", "a", "--print-value-only"])).toBe("1");
    expect(JSON.parse(await getText(address, "/version"))).toMatchObject({ etcdserver: "3.7.1" });
    await child.stop();
    expect(errorLines(child.log)).toEqual([]);
  });

  test("with --client-cert-auth a certificate of the authority is needed", async () => {
    const other = await CertificateAuthority.create(folder, "other");
    const stranger = await other.issue("stranger");
    const { address, child } = first(
      await start({
        tls: ["client"],
        flags: [...certificateFlags("", server), ...authFlags("")],
      }),
    );
    expect(await etcdctl(address, ["put", "a", "1"], client)).toBe("OK");
    await refused(address);
    await refused(address, stranger);
    const reasons = (): unknown[] =>
      logLines(child.log)
        .filter(({ msg }) => msg === "rejected connection on client endpoint")
        .map((line) => String(line["error"]).split(":", 2).join(":"));
    await expect.poll(reasons).toContain("tls: client didn't provide a certificate");
    await expect.poll(reasons).toContain("tls: failed to verify certificate");
  });

  test("a revoked certificate is refused", async () => {
    const revoked = await authority.issue("revoked");
    const list = await authority.revoke([revoked]);
    const { address } = first(
      await start({
        tls: ["client"],
        flags: [...certificateFlags("", server), ...authFlags(""), `--client-crl-file=${list}`],
      }),
    );
    expect(await etcdctl(address, ["put", "a", "1"], client)).toBe("OK");
    await refused(address, revoked);
  });

  test("a certificate for other addresses is refused", async () => {
    const elsewhere = await authority.issue("elsewhere", ["192.0.2.7"]);
    const { address } = first(
      await start({
        tls: ["client"],
        flags: [...certificateFlags("", server), ...authFlags("")],
      }),
    );
    await refused(address, elsewhere);
  });

  test("a renewed certificate is shown without a restart; a broken one leaves the former", async () => {
    const old = await authority.issue("old", ["127.0.0.1"]);
    const renewed = await authority.issue("renewed", ["127.0.0.1"]);
    const { address, child } = first(
      await start({ tls: ["client"], flags: certificateFlags("", old) }),
    );
    expect(await shownSerial(address)).toBe(old.serial);
    copyFileSync(renewed.cert, old.cert);
    await child.logged("TLS files can't be read again");
    expect(await shownSerial(address)).toBe(old.serial);
    copyFileSync(renewed.key, old.key);
    await child.logged("TLS files were read again");
    expect(await shownSerial(address)).toBe(renewed.serial);
    expect(await etcdctl(address, ["put", "a", "1"])).toBe("OK");
  });
});

describe("--auto-tls", () => {
  test("makes a certificate that stays over a restart, in a log without errors", async () => {
    const started = await start({ tls: ["client"], flags: ["--auto-tls"] });
    const member = first(started);
    const serial = await shownSerial(member.address);
    await member.stop();
    expect(errorLines(member.child.log)).toEqual([]);
    await member.start();
    expect(await shownSerial(member.address)).toBe(serial);
    expect(JSON.parse(await getText(member.address, "/health"))).toMatchObject({ health: "true" });
  });

  test("three members with certificates of their own making form a cluster", async () => {
    const started = await start({ members: 3, tls: ["peer"], flags: ["--peer-auto-tls"] });
    for (const { child } of started.members) expect(errorLines(child.log)).toEqual([]);
  });
});

describe("peer ports", () => {
  test("three members with mutual TLS form a cluster", async () => {
    const started = await start({
      members: 3,
      tls: ["peer"],
      flags: [...certificateFlags("peer-", server), ...authFlags("peer-")],
    });
    for (const { child } of started.members) expect(errorLines(child.log)).toEqual([]);
  });

  test.each([
    ["--peer-cert-allowed-cn", "member"],
    ["--peer-cert-allowed-hostname", "member.example"],
  ])("a member that %s doesn't name stays outside, and says why", async (flag, allowed) => {
    const hosts = ["127.0.0.1", "localhost"];
    const good = await authority.issue("member", [...hosts, "member.example"]);
    const bad = await authority.issue("intruder", [...hosts, "intruder.example"]);
    // Two of three are a cluster; the third is refused, and never gets ready.
    const refusal = "remote error: tls: bad certificate: client certificate authentication failed";
    const started = await start({
      members: 3,
      tls: ["peer"],
      flags: (index) => [
        ...certificateFlags("peer-", index === 2 ? bad : good),
        ...authFlags("peer-"),
        `${flag}=${allowed}`,
      ],
      readyText: (index) => (index === 2 ? refusal : READY_TEXT),
    });
    expect(started.members[2]?.child.log).not.toContain(READY_TEXT);
  });

  test("a member that neither is of the others' names nor lets them in hears that it is refused", async () => {
    const good = await authority.issue("member-a", ["127.0.0.1", "localhost"]);
    const bad = await authority.issue("member-b", ["127.0.0.1", "localhost"]);
    const started = await start({
      members: 3,
      tls: ["peer"],
      flags: (index) => [
        ...certificateFlags("peer-", index === 2 ? bad : good),
        ...authFlags("peer-"),
        `--peer-cert-allowed-cn=${index === 2 ? "member-b" : "member-a"}`,
      ],
      readyText: (index) => (index === 2 ? "remote error: tls: bad certificate" : READY_TEXT),
    });
    const log = started.members[2]?.child.log ?? "";
    const refusals = logLines(log).filter(({ error }) => error?.includes("bad certificate"));
    expect(refusals.length).toBeGreaterThan(0);
    for (const line of refusals) expect(line["remote-addr"]).toMatch(/^127\.0\.0\.1:\d+$/);
  });
});
