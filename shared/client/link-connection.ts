/**
 * One link over one WebSocket, seen by its caller: pipelined calls, batched by turn, and watch
 * streams. It does not reconnect (`LinkCaller` does): when it closes, calls that were never sent
 * fail with outcome none, writes that were sent with outcome unknown.
 */
import { RpcError } from "../api/errors.ts";
import type { Bytes } from "../base/bytes.ts";
import { decodeReplyBatch, encodeCallFrame, joinFrames } from "../wire/link-codec.ts";
import { LINK_VERSION } from "../wire/link.ts";
import type {
  LinkAnswer,
  LinkCallFrame,
  LinkReplyFrame,
  LinkRequest,
  LinkRole,
  LinkWatchCreate,
  LinkWelcome,
} from "../wire/link.ts";
import type { WriteIdentity } from "../wire/command.ts";
import { isLinkWrite } from "../wire/link-writes.ts";
import { cancelledError, deadlineError, errorOf, withOutcome } from "./caller.ts";
import type { WatchHandle, WatchListener } from "./caller.ts";
import { limit } from "./platform.ts";
import type { SocketLike } from "./platform.ts";

export interface Greeting {
  readonly role: LinkRole;
  readonly token: string;
}

interface Pending {
  readonly write: boolean;
  sent: boolean;
  resolve(answer: LinkAnswer): void;
  reject(error: RpcError): void;
}

export class LinkConnection {
  readonly endpoint: string;
  /** Set once the link is open. */
  welcome: LinkWelcome | undefined;
  readonly #socket: SocketLike;
  readonly #calls = new Map<number, Pending>();
  readonly #streams = new Map<number, WatchListener>();
  readonly #welcomed: (error?: RpcError) => void;
  #nextNumber = 1;
  #outbox: Bytes[] = [];
  #outboxCalls: Pending[] = [];
  #flushing = false;
  #closed: RpcError | undefined;
  #retired = false;

  private constructor(endpoint: string, socket: SocketLike, welcomed: (e?: RpcError) => void) {
    this.endpoint = endpoint;
    this.#socket = socket;
    this.#welcomed = welcomed;
  }

  /** Resolves once the peer has welcomed us; rejects with outcome none within `timeoutMilliseconds`. */
  static open(
    endpoint: string,
    socket: SocketLike,
    options: Greeting & { timeoutMilliseconds: number },
  ): Promise<LinkConnection> {
    return new Promise((resolve, reject) => {
      const connection = new LinkConnection(endpoint, socket, (error) => {
        clearTimeout(timer);
        if (error === undefined) resolve(connection);
        else reject(error);
      });
      const timer = setTimeout(() => {
        connection.#fail(new RpcError("unavailable", `${endpoint} did not answer in time`));
      }, options.timeoutMilliseconds);
      connection.#listen(options);
    });
  }

  get closed(): boolean {
    return this.#closed !== undefined || this.#retired;
  }

  call(
    request: LinkRequest,
    options: {
      timeoutMilliseconds: number;
      signal?: AbortSignal | undefined;
      identity?: WriteIdentity | undefined;
    },
  ): Promise<LinkAnswer> {
    const write = isLinkWrite(request);
    const { timeoutMilliseconds, signal, identity } = options;
    return new Promise((resolve, reject) => {
      if (this.#closed !== undefined) {
        reject(withOutcome(this.#closed, "none"));
        return;
      }
      const id = this.#nextNumber++;
      const settle = (): void => {
        off();
        this.#calls.delete(id);
        this.#closeIfRetired();
      };
      const giveUp = (error: RpcError): void => {
        settle();
        this.#queue({ kind: "cancel", id });
        reject(error);
      };
      const off = limit({ milliseconds: timeoutMilliseconds, signal }, (aborted) => {
        const sent = write && pending.sent;
        giveUp(
          aborted
            ? cancelledError({ write: sent, cause: signal?.reason })
            : deadlineError({ write: sent }),
        );
      });
      const pending: Pending = {
        write,
        sent: false,
        resolve: (answer) => {
          settle();
          resolve(answer);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      };
      this.#calls.set(id, pending);
      this.#outboxCalls.push(pending);
      const timeout = Math.ceil(timeoutMilliseconds);
      const how = { timeoutMilliseconds: timeout, requireLeader: true, identity };
      this.#queue({ kind: "call", id, ...how, request });
    });
  }

  watch(create: LinkWatchCreate, listener: WatchListener): WatchHandle {
    if (this.#closed !== undefined) {
      listener.end(withOutcome(this.#closed, "none"));
      return { close: () => undefined };
    }
    const stream = this.#nextNumber++;
    this.#streams.set(stream, listener);
    this.#queue({ kind: "watchOpen", stream, requireLeader: true });
    this.#queue({ kind: "watchCreate", stream, create });
    return {
      close: () => {
        if (!this.#streams.delete(stream)) return;
        this.#queue({ kind: "watchClose", stream });
        this.#closeIfRetired();
      },
      progress: () => this.#queue({ kind: "watchProgress", stream }),
    };
  }

  /** Takes no new work; closes once what is under way has ended. */
  retire(): void {
    this.#retired = true;
    this.#closeIfRetired();
  }

  close(): void {
    this.#fail(new RpcError("canceled", "the client was closed"));
  }

  #listen(greeting: Greeting): void {
    const socket = this.#socket;
    socket.binaryType = "arraybuffer";
    const hello = (): void => {
      const { role, token } = greeting;
      this.#queue({ kind: "hello", version: LINK_VERSION, role, token });
    };
    if (socket.readyState === 1) hello();
    else socket.addEventListener("open", hello);
    socket.addEventListener("message", ({ data }) => this.#receive(data));
    socket.addEventListener("error", (event) => {
      const detail =
        typeof event.message === "string" ? event.message : "connection refused or cut";
      this.#fail(new RpcError("unavailable", `${this.endpoint}: ${detail}`));
    });
    socket.addEventListener("close", ({ code, reason }) => {
      const text = reason === undefined || reason === "" ? `code ${code ?? 1006}` : reason;
      this.#fail(new RpcError("unavailable", `${this.endpoint} closed the link: ${text}`));
    });
  }

  #receive(data: unknown): void {
    if (this.#closed !== undefined) return;
    let frames: LinkReplyFrame[];
    try {
      if (!(data instanceof ArrayBuffer)) throw new TypeError("a message is not binary");
      frames = decodeReplyBatch(new Uint8Array(data));
    } catch (cause) {
      const text = `${this.endpoint} does not speak the link protocol`;
      this.#fail(new RpcError("unavailable", text, { cause }));
      return;
    }
    for (const frame of frames) this.#handle(frame);
  }

  #handle(frame: LinkReplyFrame): void {
    switch (frame.kind) {
      case "welcome":
        this.welcome = frame;
        this.#welcomed();
        return;
      case "result":
        this.#calls.get(frame.id)?.resolve(frame.answer);
        return;
      case "error":
        if (this.#calls.has(frame.id)) this.#calls.get(frame.id)?.reject(errorOf(frame.failure));
        // An edge counts by these answers how much of what it sent has arrived.
        else this.#queue({ kind: "cancel", id: frame.id });
        return;
      case "watchResponse":
        this.#streams.get(frame.stream)?.response(frame.response);
        return;
      case "watchEnd": {
        const listener = this.#streams.get(frame.stream);
        this.#streams.delete(frame.stream);
        listener?.end(errorOf(frame.failure));
        return;
      }
      case "bye":
        this.#fail(errorOf(frame.failure));
    }
  }

  #queue(frame: LinkCallFrame): void {
    if (this.#closed !== undefined) return;
    this.#outbox.push(encodeCallFrame(frame));
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#closed !== undefined || this.#outbox.length === 0) return;
    const batch = joinFrames(this.#outbox);
    for (const call of this.#outboxCalls) call.sent = true;
    this.#outbox = [];
    this.#outboxCalls = [];
    this.#socket.send(batch);
  }

  #closeIfRetired(): void {
    if (this.#retired && this.#calls.size === 0 && this.#streams.size === 0) {
      this.#fail(new RpcError("unavailable", "the client left this endpoint"));
    }
  }

  #fail(error: RpcError): void {
    if (this.#closed !== undefined) return;
    this.#closed = error;
    this.#welcomed(error);
    for (const call of this.#calls.values()) {
      call.reject(withOutcome(error, call.write && call.sent ? "unknown" : "none"));
    }
    for (const listener of this.#streams.values()) listener.end(withOutcome(error, "none"));
    this.#calls.clear();
    this.#streams.clear();
    this.#socket.close();
  }
}
