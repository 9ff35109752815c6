/**
 * Octets that are no protocol, and protocols that come damaged, on the client and the peer port of
 * a real process: connections end, the process serves on and says nothing of level error.
 */
import { once } from "node:events";
import { connect } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { Prng } from "../../shared/base/prng.ts";
import { startQuorate, type Cluster, type Member } from "../support/cluster.ts";
import { base64, postFetch } from "../support/json-api.ts";
import { errorLines } from "../support/process-log.ts";

let cluster: Cluster;
let member: Member;
let ports: readonly number[];

beforeAll(async () => {
  cluster = await startQuorate();
  member = cluster.members[0] as Member;
  const peerUrl = member.flags.find((flag) => flag.startsWith("--listen-peer-urls="));
  ports = [member.address, peerUrl].map((text) => Number(/:(\d+)$/.exec(text ?? "")?.[1]));
});

afterAll(() => cluster.stop());

async function expectServing(): Promise<void> {
  const body = JSON.stringify({ key: base64("k") });
  expect(await postFetch(member.address, "/v3/kv/put", body)).toMatchObject({ status: 200 });
  expect(errorLines(member.child.log)).toEqual([]);
}

/** Sends octets, and resolves when the connection has ended; ends its own side. */
async function sendRaw(port: number, bytes: Uint8Array | string): Promise<void> {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => undefined);
  socket.resume();
  const closed = once(socket, "close");
  socket.end(bytes);
  const timer = setTimeout(() => socket.destroy(), 2000);
  await closed;
  clearTimeout(timer);
}

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

test.each([
  ["nothing", ""],
  ["a TLS hello", Buffer.from("1603010200010001fc0303", "hex")],
  ["half a preface", PREFACE.slice(0, 20)],
  ["a preface and no settings", `${PREFACE}${"\xff".repeat(64)}`],
  ["half a request", "POST /v3/kv/put HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"],
  ["two lengths", "POST /v3/kv/put HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}"],
  ["a target that is no path", "GET http://[/ HTTP/1.1\r\nhost: x\r\n\r\n"],
  ["a host that is no host", "GET /version HTTP/1.1\r\nhost: [\r\nconnection: close\r\n\r\n"],
  [
    "an upgrade without a key",
    "GET /v3/watch HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
  ],
  ["a method that fetch doesn't have", "TRACE /health HTTP/1.1\r\nhost: x\r\n\r\n"],
  ["a host with a password", "GET /version HTTP/1.1\r\nhost: a:b@x\r\n\r\n"],
  [
    "an upgrade to something else",
    "GET /raft HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: smoke\r\n\r\n",
  ],
])("%s on either port", async (_what, bytes) => {
  for (const port of ports) await sendRaw(port, bytes);
  await expectServing();
});

test("an upgrade of a foreign page, reset when it is refused, on either port", async () => {
  const request =
    "GET /raft HTTP/1.1\r\nhost: x\r\norigin: https://other.example\r\n" +
    "connection: upgrade\r\nupgrade: websocket\r\n\r\n";
  for (const port of ports) {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => undefined);
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.once("data", () => socket.resetAndDestroy());
    socket.write(request);
    await closed;
  }
  await expectServing();
});

test("a hundred random openings on either port", async () => {
  const seed = Number(process.env["SEED"] ?? Date.now() >>> 0);
  console.log(`seed ${seed}; replay: SEED=${seed} npx vitest run --project process -t openings`);
  const prng = new Prng(seed);
  const openings = [
    "",
    PREFACE,
    "POST /v3/watch HTTP/1.1\r\nhost: x\r\n",
    "GET /raft HTTP/1.1\r\n",
  ];
  for (let count = 0; count < 100; count += 1) {
    const noise = Buffer.from(Array.from({ length: prng.below(300) }, () => prng.below(256)));
    const bytes = Buffer.concat([Buffer.from(openings[prng.below(4)] as string), noise]);
    await sendRaw(ports[prng.below(2)] as number, bytes);
  }
  await expectServing();
});

test("noise instead of a member's hello", async () => {
  for (const frame of [
    "text",
    Buffer.alloc(0),
    Buffer.alloc(1000, 0xff),
    Buffer.from("a1", "hex"),
  ]) {
    const socket = new WebSocket(`ws://127.0.0.1:${ports[1]}/raft`);
    socket.on("error", () => undefined);
    await once(socket, "open");
    socket.send(frame);
    const timer = setTimeout(() => socket.terminate(), 60_000);
    const [code] = (await once(socket, "close")) as [number];
    clearTimeout(timer);
    expect(code, "the member closes it").not.toBe(1006);
  }
  await expectServing();
});
