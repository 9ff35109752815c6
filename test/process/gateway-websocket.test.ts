/**
 * The JSON gateway of a real process over WebSocket: frames in, lines out, held to Debian's etcd
 * where both answer, and whose pages may connect.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { startEtcd, startQuorate, type Cluster } from "../support/cluster.ts";
import { base64, postFetch } from "../support/json-api.ts";
import { describeWithTools } from "../support/tools.ts";

const A = base64("a");
const B = base64("b");
const LISTED = "https://app.example";

let cluster: Cluster;
let address: string;

beforeAll(async () => {
  cluster = await startQuorate({ flags: [`--cors=${LISTED}`] });
  address = cluster.addresses[0] as string;
});

afterAll(() => cluster.stop());

/** A call over WebSocket; what it answers is taken one by one. */
class Call {
  readonly socket: WebSocket;
  readonly #lines: string[] = [];
  #wake: () => void = () => undefined;
  #isClosed = false;

  constructor(at: string, path: string, protocols: string[] = []) {
    this.socket = new WebSocket(`ws://${at}${path}`, protocols);
    this.socket.on("message", (data, isBinary) => {
      this.#lines.push(isBinary ? "a binary frame" : (data as Buffer).toString("utf8"));
      this.#wake();
    });
    this.socket.on("close", () => {
      this.#isClosed = true;
      this.#wake();
    });
  }

  /** Sends frames once the connection is open. */
  async send(...frames: (object | string)[]): Promise<void> {
    if (this.socket.readyState === this.socket.CONNECTING) {
      await new Promise((resolve, reject) => {
        this.socket.once("open", resolve).once("error", reject);
      });
    }
    for (const frame of frames) {
      this.socket.send(typeof frame === "string" ? frame : JSON.stringify(frame));
    }
  }

  /** The next frame as JSON; undefined when the server has closed. */
  async next(): Promise<Record<string, unknown> | undefined> {
    while (this.#lines.length === 0 && !this.#isClosed) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const line = this.#lines.shift();
    return line === undefined ? undefined : (JSON.parse(line) as Record<string, unknown>);
  }
}

/** What both sides must answer alike: the frames of a call and as many answers as it gives. */
const CALLS: readonly { path: string; frames: (object | string)[]; answers: number }[] = [
  { path: "/v3/kv/put", frames: [{ key: A, value: base64("1") }], answers: 2 },
  { path: "/v3/kv/put", frames: [`{"key":"${A}",`, `"value":"${A}"}`], answers: 2 },
  { path: "/v3/kv/put?method=GET", frames: [{ key: A }], answers: 2 },
  { path: "/v3beta/kv/range", frames: [{ key: A }], answers: 2 },
  { path: "/v3/kv/range", frames: [{}], answers: 2 },
  { path: "/v3/lease/keepalive", frames: [{ ID: "5" }, { ID: "6" }], answers: 2 },
  {
    path: "/v3/watch",
    frames: [{ create_request: { key: A, start_revision: "2" } }, ""],
    answers: 2,
  },
];

async function transcript(at: string): Promise<unknown[]> {
  const all: unknown[] = [];
  for (const { path, frames, answers } of CALLS) {
    const call = new Call(at, path);
    await call.send(...frames);
    for (let count = 0; count < answers; count += 1) {
      const text = JSON.stringify((await call.next()) ?? "closed", (name, value: unknown) =>
        ["cluster_id", "member_id", "raft_term", "error", "details"].includes(name)
          ? undefined
          : value,
      );
      all.push([path, JSON.parse(text)]);
    }
    call.socket.terminate();
  }
  return all;
}

describeWithTools(["etcd"], "the referee", () => {
  test("answers each call as etcd does", async () => {
    const etcd = await startEtcd();
    const own = await startQuorate();
    try {
      const expected = await transcript(etcd.addresses[0] as string);
      expect(await transcript(own.addresses[0] as string)).toEqual(expected);
    } finally {
      await Promise.all([etcd.stop(), own.stop()]);
    }
  });
});

test("a watch takes requests and delivers events on one connection until its client goes", async () => {
  const call = new Call(address, "/v3/watch");
  await call.send({ create_request: { key: A, watch_id: "1" } });
  expect(await call.next()).toMatchObject({ result: { watch_id: "1", created: true } });
  await call.send({ create_request: { key: B, watch_id: "2" } });
  expect(await call.next()).toMatchObject({ result: { watch_id: "2", created: true } });
  for (const [key, watchId] of [
    [A, "1"],
    [B, "2"],
  ]) {
    await postFetch(address, "/v3/kv/put", JSON.stringify({ key, value: A }));
    expect(await call.next()).toMatchObject({
      result: { watch_id: watchId, events: [{ kv: { key, value: A } }] },
    });
  }
  await call.send({ cancel_request: { watch_id: "1" } });
  expect(await call.next()).toMatchObject({ result: { watch_id: "1", canceled: true } });
  call.socket.close();
  expect(await call.next()).toBeUndefined();
});

test("errors come as one frame, and the connection closes", async () => {
  const cases = [
    ["/v3/kv/range", "nonsense", { code: 3 }],
    ["/v3/kv/range", "{}", { code: 3, message: "etcdserver: key is not provided" }],
    ["/v3/watch", "nonsense", { error: { code: 3 } }],
    ["/v3/auth/enable", "{}", { code: 12 }],
    ["/v3/nothing", "{}", { code: 5 }],
  ] as const;
  for (const [path, frame, answer] of cases) {
    const call = new Call(address, path);
    await call.send(frame);
    expect(await call.next()).toMatchObject(answer);
    expect(await call.next()).toBeUndefined();
  }
});

test("a frame that is too large closes its connection alone", async () => {
  const call = new Call(address, "/v3/kv/put");
  await call.send(`{"key":"${"A".repeat(5 * 1024 * 1024)}`);
  expect(await call.next()).toBeUndefined();
  const next = new Call(address, "/v3/kv/range");
  await next.send({ key: A });
  expect(await next.next()).toMatchObject({ header: {} });
});

test("a token in the subprotocols is answered with Bearer", async () => {
  const call = new Call(address, "/v3/kv/range", ["Bearer", "token"]);
  await call.send({ key: A });
  expect(call.socket.protocol).toBe("Bearer");
  expect(await call.next()).toMatchObject({ header: {} });
});

/** How a handshake ends: "open", or the HTTP status of its refusal. */
function handshake(at: string, options: { path?: string; origin?: string }) {
  return new Promise<"open" | number | undefined>((resolve) => {
    const socket = new WebSocket(`ws://${at}${options.path ?? "/v3/watch"}`, {
      ...(options.origin !== undefined && { origin: options.origin }),
    });
    socket.on("error", () => undefined);
    socket.on("open", () => resolve("open"));
    socket.on("unexpected-response", (_request, response) => resolve(response.statusCode));
    socket.once("open", () => socket.terminate());
  });
}

test("pages connect from the same host and from listed origins; other paths have no WebSocket", async () => {
  expect(await handshake(address, {})).toBe("open");
  expect(await handshake(address, { origin: `http://${address}` })).toBe("open");
  expect(await handshake(address, { origin: LISTED })).toBe("open");
  expect(await handshake(address, { origin: "https://other.example" })).toBe(403);
  expect(await handshake(address, { origin: "null" })).toBe(403);
  expect(await handshake(address, { path: "/health" })).toBe(404);
});

test("--cors=* opens no WebSocket to pages of other hosts, --enable-grpc-gateway=false none at all", async () => {
  const open = await startQuorate({ flags: ["--cors=*"] });
  const closed = await startQuorate({ flags: ["--enable-grpc-gateway=false"] });
  try {
    const [star, off] = [open.addresses[0] as string, closed.addresses[0] as string];
    expect(await handshake(star, { origin: LISTED })).toBe(403);
    expect(await handshake(star, {})).toBe("open");
    expect(await handshake(off, {})).toBe(404);
  } finally {
    await Promise.all([open.stop(), closed.stop()]);
  }
});
