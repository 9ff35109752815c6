/**
 * The few calls of etcd's JSON gateway that a mirror needs: the same for etcd and Quorate, over
 * plain `fetch`. Keys and values are base64 there and stay so here; 64-bit numbers are text.
 */

export interface GatewayKeyValue {
  /** Base64. */
  readonly key: string;
  readonly value?: string;
  readonly mod_revision?: string;
}

export interface GatewayEvent {
  /** Absent: a put. */
  readonly type?: "PUT" | "DELETE";
  readonly kv: GatewayKeyValue;
}

export interface GatewayRange {
  readonly kvs: readonly GatewayKeyValue[];
  readonly more: boolean;
  readonly revision: number;
}

/** A response of a watch; a response holds whole revisions. */
export interface GatewayChanges {
  readonly events: readonly GatewayEvent[];
  /** Above 0: the watch needs what was compacted up to here, and has ended. */
  readonly compactRevision: number;
}

export type GatewayWrite =
  | { readonly request_put: { readonly key: string; readonly value: string } }
  | { readonly request_delete_range: { readonly key: string } };

/** The endpoint refused, with its own words. `status` is HTTP's; 5xx and no answer may be tried again. */
export class GatewayError extends Error {
  override readonly name = "GatewayError";
  readonly status: number;

  constructor(text: string, status: number, options?: ErrorOptions) {
    super(text, options);
    this.status = status;
  }
}

interface Header {
  readonly revision?: string;
}

export class GatewayClient {
  readonly #endpoint: string;

  /** `endpoint`: `http://host:port`. */
  constructor(endpoint: string) {
    this.#endpoint = endpoint.replace(/\/$/, "");
  }

  /** A page of [key, rangeEnd) at a revision (0: now), by key; base64 bounds. */
  async range(request: {
    readonly key: string;
    readonly rangeEnd: string;
    readonly revision: number;
    readonly limit: number;
    readonly keysOnly: boolean;
  }): Promise<GatewayRange> {
    const { key, rangeEnd, revision, limit, keysOnly } = request;
    const answer = (await this.#call("kv/range", {
      key,
      range_end: rangeEnd,
      revision: String(revision),
      limit: String(limit),
      keys_only: keysOnly,
    })) as { header?: Header; kvs?: GatewayKeyValue[]; more?: boolean };
    return {
      kvs: answer.kvs ?? [],
      more: answer.more ?? false,
      revision: Number(answer.header?.revision ?? 0),
    };
  }

  /** All of them, or none. */
  async write(writes: readonly GatewayWrite[]): Promise<void> {
    if (writes.length > 0) await this.#call("kv/txn", { success: writes });
  }

  /** What happens in [key, rangeEnd) from a revision on, until the signal or the connection's end. */
  async *watch(
    request: { readonly key: string; readonly rangeEnd: string; readonly startRevision: number },
    signal: AbortSignal,
  ): AsyncGenerator<GatewayChanges, void, undefined> {
    const { key, rangeEnd, startRevision } = request;
    const create = {
      create_request: { key, range_end: rangeEnd, start_revision: String(startRevision) },
    };
    const response = await this.#post("watch", create, signal);
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) {
      text += decoder.decode(chunk, { stream: true });
      const lines = text.split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) if (line.trim() !== "") yield changesOf(line);
    }
  }

  async #call(path: string, body: object): Promise<unknown> {
    const response = await this.#post(path, body, AbortSignal.timeout(CALL_MILLISECONDS));
    return response.json();
  }

  async #post(path: string, body: object, signal: AbortSignal): Promise<Response> {
    const url = `${this.#endpoint}/v3/${path}`;
    let response: Response;
    try {
      response = await fetch(url, { method: "POST", body: JSON.stringify(body), signal });
    } catch (cause) {
      throw new GatewayError(`${url}: ${reasonOf(cause)}`, 0, { cause });
    }
    if (response.ok) return response;
    throw new GatewayError(`${url}: ${await response.text()}`, response.status);
  }
}

const CALL_MILLISECONDS = 30_000;

function changesOf(line: string): GatewayChanges {
  const { result, error } = JSON.parse(line) as {
    result?: { events?: GatewayEvent[]; compact_revision?: string; canceled?: boolean };
    error?: { message?: string };
  };
  if (result === undefined) throw new GatewayError(error?.message ?? "the watch ended", 0);
  const compactRevision = Number(result.compact_revision ?? 0);
  if (result.canceled === true && compactRevision === 0) {
    throw new GatewayError("the watch was cancelled", 0);
  }
  return { events: result.events ?? [], compactRevision };
}

/** `fetch` hides its reason in the cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}
