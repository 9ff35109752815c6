/** What the HTTP doors get from anybody ends that request at most, never the process. */
import { PassThrough } from "node:stream";
import { describe, expect, test } from "vitest";
import { serveFetch } from "../../../../node-runner/http/fetch-adapter.ts";
import { refuseUpgrade } from "../../../../node-runner/http/upgrade.ts";
import type { HttpRequest, HttpResponse } from "../../../../node-runner/http2/http-handler.ts";

interface Answer {
  status: number;
  body: string;
  ended: boolean;
}

/** A request without a body, and where its answer goes. */
function exchangeOf(request: Pick<HttpRequest, "method" | "target">, host = "localhost") {
  const answer: Answer = { status: 0, body: "", ended: false };
  const asked: Partial<HttpRequest> = {
    ...request,
    header: (name) => (name === "host" ? host : undefined),
    receive: () => undefined,
    pause: () => undefined,
    resume: () => undefined,
  };
  const answered: Partial<HttpResponse> & Pick<HttpResponse, "end"> = {
    get isOver() {
      return answer.ended;
    },
    get hasHead() {
      return answer.status !== 0;
    },
    writeHead: (status) => void (answer.status = status),
    write: (body) => {
      answer.body += String(body);
      return true;
    },
    end: (body) => {
      answer.body += body === undefined ? "" : String(body);
      answer.ended = true;
    },
    onDrain: () => undefined,
    onAbort: () => undefined,
  };
  return { request: asked as HttpRequest, response: answered as HttpResponse, answer };
}

describe("serveFetch", () => {
  test.each([
    ["TRACE", "/health", "localhost"],
    ["GET", "/health", "user:password@localhost"],
    ["GET", "/health", "["],
    ["no method", "/health", "localhost"],
  ])("%s %s of %s is malformed (400)", (method, target, host) => {
    const { request, response, answer } = exchangeOf({ method, target }, host);
    const handler = serveFetch(
      () => Promise.reject(new Error("is not reached")),
      () => undefined,
    );
    handler(request, response);
    expect(answer).toMatchObject({ status: 400, ended: true });
  });
});

test("a refused upgrade whose connection breaks is over, and nothing more", async () => {
  const socket = new PassThrough();
  refuseUpgrade(socket, 403, "why");
  expect(String(socket.read())).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n(.|\r\n)*\r\n\r\nwhy$/);
  expect(() => socket.emit("error", new Error("read ECONNRESET"))).not.toThrow();
  await expect.poll(() => socket.destroyed).toBe(true);
});
