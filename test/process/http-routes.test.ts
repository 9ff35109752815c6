/** The plain HTTP routes of a real process: health, version, metrics, variables, CORS. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { runCommand } from "../../node-runner/commands/commands.ts";
import { startQuorate, type Cluster } from "../support/cluster.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { base64, curl, postFetch } from "../support/json-api.ts";
import { freePorts } from "../support/ports.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import { utf8 } from "../../shared/base/bytes.ts";

let cluster: Cluster;
let base: string;
let metricsBase: string;

beforeAll(async () => {
  const [port] = await freePorts(1);
  metricsBase = `http://127.0.0.1:${port}`;
  cluster = await startQuorate({
    flags: ["--metrics=extensive", `--listen-metrics-urls=${metricsBase}`],
  });
  base = `http://${cluster.addresses[0]}`;
});

afterAll(() => cluster.stop());

async function get(path: string, init?: RequestInit): Promise<{ status: number; text: string }> {
  const response = await fetch(base + path, init);
  return { status: response.status, text: await response.text() };
}

test("/version is etcd's, with the project's own beside it", async () => {
  const { status, text } = await get("/version");
  expect(status).toBe(200);
  expect(JSON.parse(text)).toEqual({
    etcdserver: "3.7.1",
    etcdcluster: "3.7.0",
    storage: "3.7.0",
    quorate: expect.stringMatching(/^\d+\.\d+\.\d+/),
  });
});

test.each(["", "?serializable=true", "?exclude=NOSPACE", "?exclude=NOSPACE&exclude=CORRUPT"])(
  "/health%s of a healthy member",
  async (query) => {
    const { status, text } = await get(`/health${query}`);
    expect({ status, body: JSON.parse(text) }).toEqual({
      status: 200,
      body: { health: "true", reason: "" },
    });
  },
);

test.each([
  ["/livez", "ok\n"],
  ["/livez?verbose", "[+]serializable_read ok\nok\n"],
  ["/livez/serializable_read", "ok\n"],
  ["/livez?exclude=serializable_read&verbose", "ok\n"],
  ["/readyz", "ok\n"],
  [
    "/readyz?verbose",
    "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n",
  ],
  [
    "/readyz?verbose&exclude=linearizable_read&exclude=non_learner&exclude=unknown",
    "[+]data_corruption ok\n[+]serializable_read ok\nok\n",
  ],
  ["/readyz/data_corruption", "ok\n"],
  ["/readyz/linearizable_read", "ok\n"],
  ["/readyz/non_learner", "ok\n"],
])("%s of a healthy member", async (path, text) => {
  expect(await get(path)).toEqual({ status: 200, text });
});

test("a member without quorum is alive but not ready", async () => {
  const three = await startQuorate({ members: 3 });
  try {
    const [first, ...others] = three.members;
    await Promise.all(others.map((member) => member.kill()));
    const at = `http://${first?.address}`;
    await expect
      .poll(async () => (await fetch(`${at}/health`)).status, { timeout: 60_000 })
      .toBe(503);
    expect((await (await fetch(`${at}/health`)).json()) as object).toEqual({
      health: "false",
      reason: expect.stringMatching(/^RAFT NO LEADER$|^RANGE ERROR:etcdserver: /),
    });
    expect((await fetch(`${at}/health?serializable=true`)).status).toBe(200);
    expect((await fetch(`${at}/livez`)).status).toBe(200);
    const ready = await fetch(`${at}/readyz`);
    expect(ready.status).toBe(503);
    expect(await ready.text()).toMatch(/^\[-\]linearizable_read failed: etcdserver: .+$/m);
    expect((await fetch(`${at}/readyz?exclude=linearizable_read`)).status).toBe(200);
  } finally {
    await three.stop();
  }
});

test("unknown paths are 404", async () => {
  for (const path of ["/", "/nothing", "/readyz/nothing", "/v2/keys", "/v3", "/debug/requests"]) {
    expect((await get(path)).status).toBe(404);
  }
});

test.each(["/health", "/livez", "/readyz", "/readyz/non_learner", "/version", "/debug/vars"])(
  "%s takes GET alone",
  async (path) => {
    for (const method of ["POST", "PUT", "DELETE", "HEAD"]) {
      const response = await fetch(base + path, { method });
      expect([method, response.status]).toEqual([method, 405]);
      expect(response.headers.get("allow")).toBe("GET");
    }
  },
);

test("/debug/vars is JSON", async () => {
  const { text } = await get("/debug/vars");
  const variables = JSON.parse(text) as { cmdline: string[]; memstats: object };
  expect(variables.cmdline).toContain("--metrics=extensive");
  expect(variables.memstats).toBeTypeOf("object");
});

test("everything answers over HTTP/2 as well", async () => {
  const flags = ["--http2-prior-knowledge", "-w", " %{http_version} %{http_code}"];
  expect(await curl([...flags, `${base}/livez`])).toBe("ok\n 2 200");
  expect(await curl([...flags, `${base}/health`])).toBe('{"health":"true","reason":""} 2 200');
  expect(await curl([...flags, "-X", "POST", `${base}/version`])).toMatch(/ 2 405$/);
  expect(await curl([...flags, `${base}/metrics`])).toMatch(/ 2 200$/);
});

test("the metrics URL serves metrics and health, and nothing else", async () => {
  for (const path of ["/metrics", "/health", "/livez", "/readyz"]) {
    expect((await fetch(metricsBase + path)).status).toBe(200);
  }
  for (const path of ["/version", "/v3/kv/range", "/debug/vars"]) {
    expect((await fetch(metricsBase + path, { method: "POST" })).status).toBe(404);
  }
});

test("by default pages of any origin are told so; a preflight is answered alone", async () => {
  const headers = { origin: "https://any.example" };
  for (const response of [
    await fetch(`${base}/version`, { headers }),
    await fetch(`${base}/v3/kv/range`, { headers, method: "POST", body: '{"key":"YQ=="}' }),
    await fetch(`${base}/v3/kv/range`, { headers, method: "OPTIONS" }),
  ]) {
    expect(response.status).toBe(200);
    expect(response.headers.get("access-control-allow-origin")).toBe("*");
    expect(response.headers.get("access-control-allow-methods")).toBe(
      "POST, GET, OPTIONS, PUT, DELETE",
    );
    expect(response.headers.get("access-control-allow-headers")).toBe(
      "accept, content-type, authorization",
    );
  }
});

test("--cors allows the listed origins alone", async () => {
  const strict = await startQuorate({ flags: ["--cors=https://app.example"] });
  try {
    const allowed = async (origin: string) => {
      const response = await fetch(`http://${strict.addresses[0]}/version`, {
        headers: { origin },
      });
      return response.headers.get("access-control-allow-origin");
    };
    expect(await allowed("https://app.example")).toBe("https://app.example");
    expect(await allowed("https://other.example")).toBeNull();
  } finally {
    await strict.stop();
  }
});

interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: -?\d+)?$/;
const LABEL = /^([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/;
const TYPES = ["counter", "gauge", "histogram", "summary", "untyped"];

function labelsOf(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (let rest = text; rest !== "";) {
    const match = LABEL.exec(rest);
    if (match === null) throw new Error(`no labels: ${text}`);
    labels[match[1] as string] = match[2] as string;
    rest = rest.slice(match[0].length);
  }
  return labels;
}

/** Prometheus' text format, strictly: throws on a line that its grammar doesn't have. */
function parseMetrics(text: string): Sample[] {
  expect(text.endsWith("\n")).toBe(true);
  const samples: Sample[] = [];
  const types = new Map<string, string>();
  for (const line of text.slice(0, -1).split("\n")) {
    if (line === "") continue;
    const [mark, keyword, name = "", type = ""] = line.split(" ");
    if (mark === "#") {
      if (!["HELP", "TYPE"].includes(keyword ?? "") || !NAME.test(name)) throw new Error(line);
      if (keyword !== "TYPE") continue;
      if (!TYPES.includes(type) || types.has(name)) throw new Error(line);
      types.set(name, type);
      continue;
    }
    const match = SAMPLE.exec(line);
    const value = match?.[3] === "+Inf" || match?.[3] === "Nan" ? Number.NaN : Number(match?.[3]);
    if (match === null || (Number.isNaN(value) && match[3] !== "Nan")) throw new Error(line);
    const sample = { name: match[1] as string, labels: labelsOf(match[2] ?? ""), value };
    const family = sample.name.replace(/_(bucket|sum|count)$/, "");
    if (!types.has(sample.name) && !types.has(family)) throw new Error(`untyped: ${line}`);
    samples.push(sample);
  }
  const keys = samples.map(({ name, labels }) => JSON.stringify([name, Object.entries(labels)]));
  expect(new Set(keys).size).toBe(keys.length);
  return samples;
}

async function metrics(): Promise<(name: string, labels?: Record<string, string>) => number> {
  const response = await fetch(`${base}/metrics`);
  expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
  const samples = parseMetrics(await response.text());
  return (name, labels = {}) => {
    const matching = samples.filter(
      (sample) =>
        sample.name === name &&
        Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
    );
    return matching.reduce((sum, { value }) => sum + value, 0);
  };
}

test("/metrics is valid, with etcd's names and right values", async () => {
  const before = await metrics();
  expect(before("etcd_server_version", { server_version: "3.7.1" })).toBe(1);
  expect(before("etcd_cluster_version", { cluster_version: "3.7" })).toBe(1);
  expect(before("etcd_server_is_leader")).toBe(1);
  expect(before("etcd_server_has_leader")).toBe(1);
  expect(before("etcd_server_is_learner")).toBe(0);

  for (const key of ["m1", "m2", "m3"]) {
    const body = JSON.stringify({ key: base64(key), value: base64("v") });
    await postFetch(cluster.addresses[0] as string, "/v3/kv/put", body);
  }
  const body = JSON.stringify({ key: base64("m3") });
  await postFetch(cluster.addresses[0] as string, "/v3/kv/deleterange", body);
  const after = await metrics();
  const grew = (name: string) => after(name) - before(name);
  expect(grew("etcd_debugging_mvcc_current_revision")).toBe(4);
  expect(grew("etcd_server_proposals_applied_total")).toBeGreaterThanOrEqual(4);
  expect(after("etcd_server_quota_backend_bytes")).toBe(2 * 1024 ** 3);
  expect(after("etcd_mvcc_db_total_size_in_bytes")).toBeGreaterThan(0);
});

test("calls are counted by code, a cancelled watch once", async () => {
  const client = new EtcdClient(new GrpcChannel(cluster.addresses[0] as string));
  const labels = {
    grpc_service: "etcdserverpb.Watch",
    grpc_method: "Watch",
    grpc_type: "bidi_stream",
    grpc_code: "Canceled",
  };
  const before = await metrics();
  const watch = client.watch();
  await watch.created({ key: utf8("x") });
  watch.cancel();
  await client.put({ key: utf8("x") });
  await expect(client.put({})).rejects.toThrow("key is not provided");
  client.close();
  const grew = async (of: Record<string, string>) =>
    (await metrics())("grpc_server_handled_total", of) - before("grpc_server_handled_total", of);
  await expect.poll(() => grew(labels)).toBe(1);
  expect(await grew({ grpc_method: "Put", grpc_code: "OK" })).toBe(1);
  expect(await grew({ grpc_method: "Put", grpc_code: "InvalidArgument" })).toBe(1);
});

/** The door for several changes of the members at once; that they are made, `membership.test.ts` shows. */
async function changeMembers(
  body: string,
  init: RequestInit = {},
): Promise<{ status: number; body: unknown }> {
  const headers = { "content-type": "application/json" };
  const { status, text } = await get("/quorate/members", {
    method: "POST",
    headers,
    ...(init.method === "GET" ? {} : { body }),
    ...init,
  });
  return { status, body: JSON.parse(text) };
}

test.each([
  ["nonsense", "malformed request"],
  ["null", "an object is needed"],
  ['{"adds": []}', '"adds" is not known'],
  ['{"add": {}}', '"add" is a list'],
  ['{"add": [{"peerURLs": 1}]}', "malformed request"],
  ['{"remove": [1]}', "ids in decimal, as text"],
  ['{"promote": ["99999999999999999999"]}', "ids in decimal, as text"],
  ["{}", "a change names 1 to 32 members"],
  ['{"promote": ["7"], "remove": ["7"]}', "a change names 1 to 32 members"],
  ['{"add": [{"peerURLs": ["nonsense"]}]}', "given member URLs are invalid"],
])("POST /quorate/members refuses %s", async (body, reason) => {
  expect(await changeMembers(body)).toMatchObject({
    status: 400,
    body: { code: 3, message: expect.stringContaining(reason) },
  });
});

test("POST /quorate/members: other methods, other content, and what the cluster refuses", async () => {
  expect((await changeMembers("", { method: "GET" })).status).toBe(405);
  // What a page may send without being asked.
  const headers = { "content-type": "text/plain" };
  expect((await changeMembers("{}", { headers })).status).toBe(415);
  expect(await changeMembers('{"remove": ["7"], "promote": ["8"]}')).toEqual({
    status: 404,
    body: {
      error: "etcdserver: member not found",
      code: 5,
      message: "etcdserver: member not found",
      details: [],
    },
  });
});

test("quorate member change tells what was done, what was refused, and how it is called", async () => {
  const run = async (...args: string[]) => {
    let [out, err] = ["", ""];
    const output = {
      out: (piece: string) => void (out += piece),
      err: (piece: string) => void (err += piece),
    };
    const code = await runCommand(["member", "change", ...args], output);
    return { code, out, err };
  };
  const at = `--endpoints=${base}`;
  const urls = "http://127.0.0.1:1,http://127.0.0.1:2";
  const added = await run(`--add-learner=${urls}`, at);
  expect(added).toMatchObject({ code: 0, err: "" });
  const line = added.out.split("\n").find((each) => each.includes(urls)) ?? "";
  expect(line).toMatch(new RegExp(`^[0-9a-f]{1,16}, , ${urls}, learner, added$`));
  const [id = ""] = line.split(",");
  expect(await run(`--promote=${id}`, at)).toMatchObject({
    code: 1,
    err: expect.stringContaining("in sync with leader"),
  });
  const removed = await run(`--remove=${id}`, at);
  expect(removed).toMatchObject({ code: 0, err: "" });
  expect(removed.out.split("\n")).toHaveLength(2);
  expect(await run("--remove=nonsense", at)).toMatchObject({
    code: 2,
    err: expect.stringContaining("usage: quorate member change"),
  });
  expect(await run(`--remove=${id}`, "--endpoints=127.0.0.1:1")).toMatchObject({
    code: 1,
    err: expect.stringContaining("ECONNREFUSED"),
  });
});
