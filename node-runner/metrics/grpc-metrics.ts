/**
 * gRPC's counters, under the names that etcd's dashboards use. The hot path adds to plain numbers;
 * the registry reads them only when it is asked.
 */
import { Counter, Histogram, type Registry } from "prom-client";
import { STATUS } from "../../shared/api/errors.ts";
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
  const labels = ["grpc_type", "grpc_service", "grpc_method"];

  const of = (info: MethodInfo): MethodCounts => {
    let found = counts.get(info);
    if (found === undefined) {
      found = { started: 0, handled: new Map(), received: 0, sent: 0 };
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
    labelNames: [...labels, "grpc_code"],
    registers,
    collect() {
      this.reset();
      for (const [info, each] of counts) {
        for (const [code, count] of each.handled) {
          this.inc({ ...labelsOf(info), grpc_code: CODE_NAMES[code] ?? String(code) }, count);
        }
      }
    },
  });
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
    started: (info) => void (of(info).started += 1),
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

function labelsOf(info: MethodInfo): Record<string, string> {
  return { grpc_type: info.type, grpc_service: info.service, grpc_method: info.method };
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
