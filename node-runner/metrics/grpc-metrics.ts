/**
 * gRPC's counters, under the names that etcd's dashboards use. The hot path adds to plain numbers;
 * the registry reads them only when it is asked. As in etcd each method that is served shows from the
 * start, with zeros and for every code: who computes a rate sees the first call, too.
 */
import { Counter, Histogram, type Registry } from "prom-client";
import { STATUS } from "../../shared/api/errors.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import type { GrpcObserver, MethodInfo } from "../grpc/service.ts";

/** gRPC's names of the codes, as `grpc_code` labels them: `OK`, `InvalidArgument`, ... */
const CODE_NAMES: readonly string[] = Object.keys(STATUS).map((name) =>
  name === "ok" ? "OK" : `${name[0]?.toUpperCase()}${name.slice(1)}`,
);

interface MethodCounts {
  started: number;
  readonly handled: Map<number, number>;
  received: number;
  sent: number;
}

/** Calls by the API version that the clients said they speak. */
type VersionCounts = Map<string, number>;

/** What a client said that says nothing, and one version too many. */
const UNKNOWN_VERSION = "unknown";

export interface GrpcMetricsOptions {
  readonly registry: Registry;
  /** Also times calls (etcd: --metrics=extensive). */
  readonly extensive: boolean;
  /** Called for unary calls; the log speaks of slow ones. */
  readonly onUnary?: (info: MethodInfo, seconds: number) => void;
}

export function createGrpcMetrics(options: GrpcMetricsOptions): GrpcObserver {
  const counts = new Map<MethodInfo, MethodCounts>();
  const bytes = { received: 0, sent: 0 };
  const registers = [options.registry];
  const labels = ["grpc_method", "grpc_service", "grpc_type"];

  const of = (info: MethodInfo): MethodCounts => {
    let found = counts.get(info);
    if (found === undefined) {
      const handled = new Map(CODE_NAMES.map((_, code) => [code, 0]));
      found = { started: 0, handled, received: 0, sent: 0 };
      counts.set(info, found);
    }
    return found;
  };
  const countMethods = (
    name: string,
    help: string,
    value: (each: MethodCounts) => number,
  ): void => {
    void new Counter({
      name,
      help,
      labelNames: labels,
      registers,
      collect() {
        this.reset();
        for (const [info, each] of counts) this.inc(labelsOf(info), value(each));
      },
    });
  };
  countMethods("grpc_server_started_total", "Calls that began.", (each) => each.started);
  countMethods("grpc_server_msg_received_total", "Messages received.", (each) => each.received);
  countMethods("grpc_server_msg_sent_total", "Messages sent.", (each) => each.sent);
  void new Counter({
    name: "grpc_server_handled_total",
    help: "Calls that ended, by code.",
    labelNames: ["grpc_code", ...labels],
    registers,
    collect() {
      this.reset();
      for (const [info, each] of counts) {
        for (const [code, count] of each.handled) {
          this.inc({ grpc_code: CODE_NAMES[code] ?? String(code), ...labelsOf(info) }, count);
        }
      }
    },
  });
  const unary: VersionCounts = new Map([[UNKNOWN_VERSION, 0]]);
  const streams: VersionCounts = new Map([[UNKNOWN_VERSION, 0]]);
  countClients(registers, { unary, stream: streams });
  countBytes(registers, "received", () => bytes.received);
  countBytes(registers, "sent", () => bytes.sent);
  const seconds = options.extensive
    ? new Histogram({
        name: "grpc_server_handling_seconds",
        help: "How long calls took.",
        labelNames: labels,
        registers,
      })
    : undefined;

  return {
    serves: (info) => void of(info),
    started(info, clientVersion) {
      of(info).started += 1;
      countVersion(info.type === "unary" ? unary : streams, clientVersion ?? UNKNOWN_VERSION);
    },
    handled(info, result) {
      const { handled } = of(info);
      handled.set(result.code, (handled.get(result.code) ?? 0) + 1);
      seconds?.observe(labelsOf(info), result.seconds);
      if (info.type === "unary") options.onUnary?.(info, result.seconds);
    },
    received(info, length) {
      of(info).received += 1;
      bytes.received += length;
    },
    sent(info, length) {
      of(info).sent += 1;
      bytes.sent += length;
    },
  };
}

/** In the order of their names, as Go's library prints them: some tools look for whole lines. */
function labelsOf(info: MethodInfo): Record<string, string> {
  return { grpc_method: info.method, grpc_service: info.service, grpc_type: info.type };
}

function countVersion(counts: VersionCounts, version: string): void {
  const before = counts.get(version);
  if (before !== undefined) counts.set(version, before + 1);
  else if (counts.size < LIMITS.clientVersionsMax) counts.set(version, 1);
  else countVersion(counts, UNKNOWN_VERSION);
}

function countClients(registers: Registry[], byType: Record<string, VersionCounts>): void {
  void new Counter({
    name: "etcd_server_client_requests_total",
    help: "Calls and streams that began, by the API version of the client.",
    labelNames: ["client_api_version", "type"],
    registers,
    collect() {
      this.reset();
      for (const [type, counts] of Object.entries(byType)) {
        for (const [version, count] of counts) {
          this.inc({ client_api_version: version, type }, count);
        }
      }
    },
  });
}

function countBytes(
  registers: Registry[],
  direction: "received" | "sent",
  value: () => number,
): void {
  void new Counter({
    name: `etcd_network_client_grpc_${direction}_bytes_total`,
    help: `Bytes ${direction} by gRPC clients' calls.`,
    registers,
    collect() {
      this.reset();
      this.inc(value());
    },
  });
}
