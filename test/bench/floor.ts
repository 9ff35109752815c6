/**
 * A second opinion: `h2load` (Debian's nghttp2-client) repeats one request on 10 connections with 10 streams each. It
 * knows no gRPC, so it sees HTTP status and not the call's; its figures are floors beside the own generator's.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import { findTool } from "../support/tools.ts";
import {
  KEY_OFFSET,
  KEY_BYTES,
  putTemplate,
  rangeTemplate,
  VALUE_BYTES,
  writeKey,
} from "./messages.ts";
import { usageOfAll } from "./process-usage.ts";
import { startSide, type Server, type Side } from "./sides.ts";

export const FLOORS = ["put", "range", "serializable"] as const;
export type Floor = (typeof FLOORS)[number];

export interface FloorResult {
  readonly requestsPerSecond: number;
  readonly failed: number;
  /** CPU of the server for each request, those of the start included. */
  readonly serverMicroseconds: number;
}

const CONNECTIONS = 10;
const STREAMS = 10;

function requestOf(floor: Floor): { path: string; message: Buffer } {
  const put = floor === "put";
  const value = new Uint8Array(VALUE_BYTES).fill(7);
  const message = put ? putTemplate(value) : rangeTemplate(floor === "serializable");
  writeKey(message, KEY_OFFSET, 1, 1);
  return { path: `/etcdserverpb.KV/${put ? "Put" : "Range"}`, message };
}

async function putKey(server: Server): Promise<void> {
  const client = new EtcdClient(new GrpcChannel(server.addresses[0] as string));
  const key = putTemplate(new Uint8Array(VALUE_BYTES));
  writeKey(key, KEY_OFFSET, 1, 1);
  await client.put({
    key: key.subarray(KEY_OFFSET, KEY_OFFSET + KEY_BYTES),
    value: new Uint8Array(VALUE_BYTES).fill(7),
  });
  client.close();
}

/** Undefined when h2load isn't installed. */
export async function measureFloor(
  side: Side,
  floor: Floor,
  seconds: number,
): Promise<FloorResult | undefined> {
  const tool = findTool("h2load");
  if (tool === undefined) return undefined;
  const directory = mkdtempSync(join(tmpdir(), "quorate-floor-"));
  const server = await startSide(side, 1);
  try {
    await putKey(server);
    const { path, message } = requestOf(floor);
    const body = join(directory, "request");
    writeFileSync(body, message);
    const headers = ["content-type: application/grpc", "te: trailers"];
    const before = usageOfAll(server.pids);
    const { stdout } = await promisify(execFile)(tool, [
      `--duration=${seconds}`,
      `--clients=${CONNECTIONS}`,
      `--max-concurrent-streams=${STREAMS}`,
      ...headers.map((header) => `--header=${header}`),
      `--data=${body}`,
      `http://${server.addresses[0]}${path}`,
    ]);
    const after = usageOfAll(server.pids);
    const figure = (pattern: RegExp): number => {
      const found = pattern.exec(stdout)?.[1];
      if (found === undefined) throw new Error(`h2load says nothing of ${pattern}: ${stdout}`);
      return Number(found);
    };
    const succeeded = figure(/(\d+) succeeded/);
    return {
      requestsPerSecond: figure(/([\d.]+) req\/s/),
      failed: figure(/(\d+) failed/) + figure(/(\d+) errored/),
      serverMicroseconds: ((after.cpuSeconds - before.cpuSeconds) * 1e6) / Math.max(1, succeeded),
    };
  } finally {
    await server.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}
