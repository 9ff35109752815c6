/**
 * etcd's API over the services: every method that exists so far, by service and name. What isn't
 * here is answered Unimplemented by the doors.
 */
import { Watch, type WatchRequest } from "../../api/gen/etcdserverpb/rpc_pb.js";
import {
  Health,
  HealthCheckResponse_ServingStatus,
} from "../../api/gen/grpc/health/v1/health_pb.js";
import { RpcError } from "../../api/errors.ts";
import type { CallContext, Services, WatchResponse, WatchService } from "../services.ts";
import { authMethods } from "./auth-methods.ts";
import { clusterMethods } from "./cluster-methods.ts";
import { encodeWatchResponse } from "./encode.ts";
import { kvMethods } from "./kv-methods.ts";
import { leaseMethods } from "./lease-methods.ts";
import { guardLearner } from "./learner-guard.ts";
import { maintenanceMethods } from "./maintenance-methods.ts";
import {
  streaming,
  unary,
  type AnswerSink,
  type ProtoMethod,
  type StreamHandler,
} from "./method.ts";
import { watchMessage } from "./replies.ts";
import { watchCreateOf } from "./requests.ts";

export type ProtoServices = Readonly<Record<string, Readonly<Record<string, ProtoMethod>>>>;

export function protoServices(services: Services): ProtoServices {
  const methods: ProtoServices = {
    "etcdserverpb.KV": kvMethods(services.kv),
    "etcdserverpb.Lease": leaseMethods(services.lease),
    "etcdserverpb.Watch": {
      Watch: streaming(
        "bidi",
        Watch.method.watch,
        (sink, call) => openWatch(services.watch, sink, call),
        {
          encode: encodeWatchResponse,
          message: watchMessage,
        },
      ),
    },
    "etcdserverpb.Cluster": clusterMethods(services.cluster),
    "etcdserverpb.Maintenance": maintenanceMethods(services.maintenance),
    "etcdserverpb.Auth": authMethods(services.maintenance),
    "grpc.health.v1.Health": healthMethods(),
  };
  return guardLearner(methods, services);
}

function openWatch(
  watch: WatchService,
  sink: AnswerSink<WatchResponse>,
  call: CallContext,
): StreamHandler<WatchRequest> {
  const stream = watch.open(
    { send: (response) => sink.send(response), end: (error) => sink.end(error) },
    call,
  );
  return {
    receive({ requestUnion: union }) {
      if (union.case === "createRequest") stream.create(watchCreateOf(union.value));
      else if (union.case === "cancelRequest") stream.cancel(union.value.watchId);
      else if (union.case === "progressRequest") stream.progress();
    },
    // Events flow on after a half-close, as with etcd: the call ends when the client cancels it.
    halfClose: () => undefined,
    drained: () => stream.resume(),
    closed: () => stream.close(),
  };
}

const { SERVING } = HealthCheckResponse_ServingStatus;

/** gRPC health: the server as a whole ("") serves; no other name is known. */
function healthMethods(): Readonly<Record<string, ProtoMethod>> {
  const judge = (service: string) => {
    if (service !== "") throw new RpcError("notFound", "unknown service");
    return { status: SERVING };
  };
  return {
    Check: unary(Health.method.check, async ({ service }) => judge(service), {
      message: (answer) => answer,
    }),
    Watch: streaming(
      "serverStream",
      Health.method.watch,
      (sink: AnswerSink<{ status: HealthCheckResponse_ServingStatus }>) => ({
        // The stream stays open: the state never changes while the server serves.
        receive({ service }) {
          const status =
            service === "" ? SERVING : HealthCheckResponse_ServingStatus.SERVICE_UNKNOWN;
          sink.send({ status });
        },
        halfClose: () => undefined,
        drained: () => undefined,
        closed: () => undefined,
      }),
      { message: (answer) => answer },
    ),
  };
}
