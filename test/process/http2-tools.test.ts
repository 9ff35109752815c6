/**
 * The HTTP/2 server against tools that others wrote: curl, nghttp and h2load. Skipped where a tool
 * is not installed.
 */
import { spawn, spawnSync } from "node:child_process";
import { writeFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startEchoServer, type EchoServer } from "../unit/node-runner/grpc/echo-server.ts";
import { CERTIFICATE, KEY } from "../unit/node-runner/http2/certificate.ts";
import { grpcMessage } from "../unit/node-runner/http2/raw-client.ts";

let server: EchoServer;
let secure: EchoServer;
let folder: string;
let message: string;

beforeAll(async () => {
  server = await startEchoServer();
  secure = await startEchoServer({ tls: { cert: CERTIFICATE, key: KEY } });
  folder = mkdtempSync(join(tmpdir(), "quorate-http2-"));
  message = join(folder, "message");
  writeFileSync(message, grpcMessage("hello"));
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await secure[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

/** True, with a printed reason, when the tool is not installed. */
function isMissing(tool: string): boolean {
  const missing = spawnSync(tool, ["--version"]).error !== undefined;
  if (missing) process.stderr.write(`skipped: ${tool} is not installed\n`);
  return missing;
}

/** Runs a tool, while this process serves it, and returns its standard output. */
function run(tool: string, ...args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(tool, args, { stdio: ["ignore", "pipe", "pipe"], timeout: 120_000 });
    const output: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => output.push(chunk));
    child.on("error", reject);
    child.on("close", (code) => {
      const text = Buffer.concat(output).toString("latin1");
      if (code === 0) resolve(text);
      else reject(new Error(`${tool} ended with ${code}: ${text}`));
    });
  });
}

const grpcHeaders = ["-H", "content-type: application/grpc", "-H", "te: trailers"];

describe.skipIf(isMissing("curl"))("curl", () => {
  test("prior knowledge, a gRPC call with trailers", async () => {
    const url = `http://127.0.0.1:${server.port}/test.Echo/Echo`;
    const flags = ["-sv", "--http2-prior-knowledge", "--data-binary", `@${message}`];
    const output = await run("curl", ...flags, ...grpcHeaders, url);
    expect(output).toContain("HTTP/2 200");
    expect(output).toContain("grpc-status: 0");
    expect(output).toContain("hello");
  });

  test("a large body and a large reply", async () => {
    const body = join(folder, "body");
    writeFileSync(body, Buffer.alloc(99_000, "b"));
    const url = `http://127.0.0.1:${server.port}`;
    const posted = await run(
      "curl",
      "-s",
      "--http2-prior-knowledge",
      "--data-binary",
      `@${body}`,
      `${url}/post`,
    );
    expect(posted).toHaveLength("2.0 POST /post ".length + 99_000);
    const large = await run("curl", "-s", "--http2-prior-knowledge", `${url}/large`);
    expect(large).toHaveLength(1024 * 1024);
  });

  test("the upgrade that is not offered falls back to HTTP/1.1", async () => {
    const url = `http://127.0.0.1:${server.port}/up`;
    expect(await run("curl", "-s", "--http2", url)).toBe("1.1 GET /up ");
  });

  test("TLS with ALPN, either way", async () => {
    const url = `https://127.0.0.1:${secure.port}/tls`;
    expect(await run("curl", "-sk", "--http2", url)).toBe("2.0 GET /tls ");
    expect(await run("curl", "-sk", "--http1.1", url)).toBe("1.1 GET /tls ");
  });
});

describe.skipIf(isMissing("nghttp"))("nghttp", () => {
  test("streams with priorities, padding and continuations", async () => {
    const url = `http://127.0.0.1:${server.port}`;
    const output = await run(
      "nghttp",
      "-nv",
      "--padding=100",
      "--continuation",
      "-m3",
      `${url}/a`,
      `${url}/b`,
    );
    expect(output).toContain(":status: 200");
    expect(output).not.toContain("PROTOCOL_ERROR");
    expect(output.match(/END_STREAM \| PADDED|END_STREAM/g)?.length ?? 0).toBeGreaterThan(2);
  });

  test("small windows and a small header table", async () => {
    const url = `http://127.0.0.1:${server.port}/large`;
    const output = await run("nghttp", "-nsv", "-w10", "-W11", "--header-table-size=0", url);
    expect(output).toContain("1M");
    expect(output).not.toMatch(/(?<!NO_)ERROR/);
  });
});

describe.skipIf(isMissing("h2load"))("h2load", () => {
  test("20 000 gRPC calls on 10 connections all succeed, plain and over TLS", async () => {
    const load = ["-n", "20000", "-c", "10", "-m", "10", "-d", message, ...grpcHeaders];
    for (const origin of [`http://127.0.0.1:${server.port}`, `https://127.0.0.1:${secure.port}`]) {
      server.handled.length = 0;
      secure.handled.length = 0;
      const output = await run("h2load", ...load, `${origin}/test.Echo/Later`);
      expect(output).toContain("20000 succeeded, 0 failed, 0 errored, 0 timeout");
      const handled = server.handled.length + secure.handled.length;
      expect(handled).toBe(20_000);
      expect(new Set([...server.handled, ...secure.handled])).toEqual(new Set(["Later 0"]));
    }
  });
});
