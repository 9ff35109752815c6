/** etcd's methods on a learner: all but a few are refused before they reach their service. */
import type { RangeRequest } from "../../api/gen/etcdserverpb/rpc_pb.js";
import { learnerRefusal } from "../learner-rules.ts";
import type { Services } from "../services.ts";
import type { ProtoMethod, StreamHandler } from "./method.ts";

type MethodTable = Readonly<Record<string, Readonly<Record<string, ProtoMethod>>>>;

const ALWAYS_ALLOWED: ReadonlySet<string> = new Set([
  "etcdserverpb.Maintenance/Status",
  "etcdserverpb.Maintenance/Snapshot",
]);

export function guardLearner(methods: MethodTable, services: Services): MethodTable {
  const guarded = Object.entries(methods).map(([service, table]) => {
    const entries = Object.entries(table).map(([name, method]) => {
      const path = `${service}/${name}`;
      return [name, ALWAYS_ALLOWED.has(path) ? method : guard(path, method, services)] as const;
    });
    return [service, Object.fromEntries(entries)] as const;
  });
  return Object.fromEntries(guarded);
}

function guard(path: string, method: ProtoMethod, services: Services): ProtoMethod {
  if (method.kind === "unary") {
    const isRange = path === "etcdserverpb.KV/Range";
    return {
      ...method,
      handle(request, call) {
        const allowed = isRange && (request as unknown as RangeRequest).serializable;
        const refusal = learnerRefusal(services, allowed);
        return refusal === undefined ? method.handle(request, call) : Promise.reject(refusal);
      },
    };
  }
  return {
    ...method,
    open(sink, call) {
      const refusal = learnerRefusal(services, false);
      if (refusal === undefined) return method.open(sink, call);
      return refusing(() => sink.end(refusal));
    },
  };
}

/** Ends the call once its door has opened it. */
function refusing(end: () => void): StreamHandler<never> {
  let over = false;
  void Promise.resolve().then(() => {
    if (!over) end();
  });
  const closed = (): void => {
    over = true;
  };
  return { receive: () => undefined, halfClose: () => undefined, drained: () => undefined, closed };
}
