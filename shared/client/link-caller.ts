/**
 * Calls over WebSocket links, one at a time to one of the endpoints. A call is sent again, to the
 * next endpoint, until its deadline: a read as it is, a write under its identity, so that it
 * applies once.
 */
import { RpcError } from "../api/errors.ts";
import * as LIMITS from "../base/link-limits.ts";
import type {
  LinkAnswer,
  LinkAnswerOf,
  LinkMethod,
  LinkRequest,
  LinkRequestOf,
  LinkWatchCreate,
  LinkWelcome,
} from "../wire/link.ts";
import { callByTries } from "./attempts.ts";
import type { Attempts, Bounds } from "./attempts.ts";
import { cancelledError } from "./caller.ts";
import type { CallOptions, Caller, WatchHandle, WatchListener } from "./caller.ts";
import { socketUrl } from "./endpoints.ts";
import type { Endpoints } from "./endpoints.ts";
import { LinkConnection } from "./link-connection.ts";
import type { Greeting } from "./link-connection.ts";
import { limit, pause } from "./platform.ts";
import type { WriteLanes } from "./write-lanes.ts";
import type { ClientPlatform } from "./platform.ts";

export interface CallerOptions extends Greeting {
  readonly endpoints: Endpoints;
  readonly platform: ClientPlatform;
  /** For calls that name no time of their own. */
  readonly timeoutMilliseconds: number;
  readonly lanes: WriteLanes;
  /** Told which peer is about to answer: by POST each time, else when a link opens. */
  answeredBy?(welcome: LinkWelcome): void;
}

export class LinkCaller implements Caller {
  readonly #options: CallerOptions;
  #connection: Promise<LinkConnection> | undefined;
  #open: LinkConnection | undefined;
  #closed = false;

  constructor(options: CallerOptions) {
    this.#options = options;
  }

  call<Method extends LinkMethod>(
    request: LinkRequestOf<Method>,
    options: CallOptions = {},
  ): Promise<LinkAnswerOf<Method>> {
    const tries = (attempts: Attempts, bounds: Bounds): Promise<LinkAnswer> =>
      this.#untilAnswered(attempts, bounds);
    const answer = callByTries(request as LinkRequest, options, this.#options, tries);
    return answer as Promise<LinkAnswerOf<Method>>;
  }

  async #untilAnswered(attempts: Attempts, { deadline, signal }: Bounds): Promise<LinkAnswer> {
    const { platform } = this.#options;
    let last: RpcError | undefined;
    for (let attempt = 1; ; attempt += 1) {
      if (signal?.aborted === true) {
        throw cancelledError({ write: attempts.uncertain, cause: signal.reason });
      }
      let connection: LinkConnection | undefined;
      try {
        connection = await this.#connect(deadline, signal);
        const timeoutMilliseconds = Math.max(1, deadline - platform.now());
        const identity = attempts.identity();
        const how = { timeoutMilliseconds, signal, identity };
        return await connection.call(attempts.request, how);
      } catch (error) {
        const after = attempts.failed(error);
        if (after.kind === "over") throw after.error;
        if (connection !== undefined && after.kind === "newFloor") {
          await this.#refreshFloor(connection, { deadline, signal });
        } else if (connection !== undefined && after.error.status !== "deadlineExceeded") {
          this.#leave(connection);
        }
        const delay = backoff(attempt, platform.random());
        // A dial that the deadline cut short knows no reasons: the try before it does.
        const same = last?.outcome === after.error.outcome && connection === undefined;
        if (this.#closed || platform.now() + delay >= deadline) throw same ? last : after.error;
        last = after.error;
        await pause(delay, signal);
      }
    }
  }

  /** The welcome's index is as old as the link: asks for a newer one. */
  async #refreshFloor(
    connection: LinkConnection,
    { deadline, signal }: { deadline: number; signal: AbortSignal | undefined },
  ): Promise<void> {
    const timeoutMilliseconds = Math.max(1, deadline - this.#options.platform.now());
    const answer = await connection.call({ method: "status" }, { timeoutMilliseconds, signal });
    if (answer.method === "status") this.#options.lanes.heard(answer.raftAppliedIndex);
  }

  async watch(create: LinkWatchCreate, listener: WatchListener): Promise<WatchHandle> {
    const { platform, timeoutMilliseconds } = this.#options;
    const connection = await this.#connect(platform.now() + timeoutMilliseconds, undefined);
    return connection.watch(create, {
      response: (response) => listener.response(response),
      end: (error) => {
        this.#leave(connection);
        listener.end(error);
      },
    });
  }

  close(): void {
    this.#closed = true;
    this.#open?.close();
    this.#open = undefined;
    this.#connection = undefined;
  }

  /** This endpoint could not serve: the next call tries another. */
  #leave(connection: LinkConnection): void {
    if (this.#open !== connection) return;
    this.#open = undefined;
    this.#connection = undefined;
    this.#options.endpoints.leave(connection.endpoint);
    connection.retire();
  }

  #connect(deadline: number, signal: AbortSignal | undefined): Promise<LinkConnection> {
    if (this.#closed) return Promise.reject(new RpcError("canceled", "the client was closed"));
    if (this.#open?.closed === true) this.#leave(this.#open);
    this.#connection ??= this.#dial().catch((error: unknown) => {
      this.#connection = undefined;
      throw error;
    });
    return this.#within(this.#connection, deadline, signal);
  }

  /** A dial serves all calls that wait for it, each until its own deadline. */
  #within(
    connection: Promise<LinkConnection>,
    deadline: number,
    signal: AbortSignal | undefined,
  ): Promise<LinkConnection> {
    if (this.#open !== undefined) return connection;
    const milliseconds = Math.max(0, deadline - this.#options.platform.now());
    return new Promise((resolve, reject) => {
      const off = limit({ milliseconds, signal }, (aborted) => {
        const text = "no endpoint answered in time";
        const cause = signal?.reason;
        reject(
          aborted ? cancelledError({ write: false, cause }) : new RpcError("unavailable", text),
        );
      });
      connection.finally(off).then(resolve, reject);
    });
  }

  /** Tries each endpoint once, from the current one on. */
  async #dial(): Promise<LinkConnection> {
    const { endpoints, platform, role, token } = this.#options;
    const reasons: string[] = [];
    for (let attempt = 0; attempt < endpoints.count; attempt += 1) {
      const endpoint = endpoints.current;
      try {
        const socket = await platform.openSocket(socketUrl(endpoint));
        const timeoutMilliseconds = LIMITS.clientConnectMilliseconds;
        const greeting = { role, token, timeoutMilliseconds };
        const connection = await LinkConnection.open(endpoint, socket, greeting);
        if (this.#closed) {
          connection.close();
          throw new RpcError("canceled", "the client was closed");
        }
        this.#open = connection;
        if (connection.welcome !== undefined) {
          this.#options.lanes.heard(connection.welcome.appliedIndex);
          this.#options.answeredBy?.(connection.welcome);
        }
        return connection;
      } catch (error) {
        // A wrong token or version stays wrong at the next endpoint.
        if (error instanceof RpcError && error.status !== "unavailable") throw error;
        reasons.push(error instanceof Error ? error.message : String(error));
        endpoints.leave(endpoint);
      }
    }
    throw new RpcError("unavailable", `no endpoint can be reached: ${reasons.join("; ")}`);
  }
}

/**
 * The wait before the next try: doubles up to the limit, drawn from its upper half, so that
 * clients spread. `random` in [0, 1).
 */
export function backoff(attempt: number, random: number): number {
  const doubled = LIMITS.clientBackoffMilliseconds * 2 ** Math.min(attempt - 1, 10);
  const full = Math.min(LIMITS.clientBackoffMillisecondsMax, doubled);
  return full * (0.5 + random / 2);
}
