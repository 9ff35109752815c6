/**
 * The JSON gateway's clients in tests: one request over HTTP/1.1 (fetch) or HTTP/2 (curl with prior
 * knowledge), answered with the status and the parsed body.
 */
import { spawn } from "node:child_process";

export interface JsonAnswer {
  readonly status: number;
  readonly body: unknown;
}

export type PostJson = (address: string, path: string, body: string) => Promise<JsonAnswer>;

/** Far above what any of them takes on a slow machine. */
const MILLISECONDS = 30_000;

export const base64 = (text: string): string => Buffer.from(text).toString("base64");

/** POST over HTTP/1.1. */
export async function postFetch(address: string, path: string, body: string): Promise<JsonAnswer> {
  const response = await fetch(`http://${address}${path}`, {
    method: "POST",
    body,
    signal: AbortSignal.timeout(MILLISECONDS),
  });
  return { status: response.status, body: parsed(await response.text()) };
}

/** POST over HTTP/2, as curl speaks it. */
export async function postCurl(address: string, path: string, body: string): Promise<JsonAnswer> {
  const flags = [
    "--http2-prior-knowledge",
    "--data-binary",
    "@-",
    "-w",
    "\n%{http_version} %{http_code}",
  ];
  const output = await curl([...flags, `http://${address}${path}`], body);
  const split = output.lastIndexOf("\n");
  const [version, status] = output.slice(split + 1).split(" ");
  if (version !== "2") throw new Error(`curl used HTTP/${version}`);
  return { status: Number(status), body: parsed(output.slice(0, split)) };
}

/** What curl writes, silent and bounded in time. */
export function curl(args: readonly string[], input = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn("curl", ["-sS", ...args], { timeout: MILLISECONDS });
    const chunks: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.on("error", reject);
    child.on("close", () => resolve(Buffer.concat(chunks).toString("utf8")));
    // A server that answers early closes the pipe: what counts is its answer.
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
  });
}

/** One JSON value, several of them line by line, or plain text. */
function parsed(text: string): unknown {
  try {
    const lines = text.split("\n").filter((line) => line !== "");
    return lines.length > 1 ? lines.map((line) => JSON.parse(line) as unknown) : JSON.parse(text);
  } catch {
    return text;
  }
}
