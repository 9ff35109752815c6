/** A peer's services of which ranges and watches are served, and all else is refused. */
import { RpcError } from "../api/errors.ts";
import type { KvService, Services, WatchService } from "../peer/services.ts";

function refuse(): never {
  const text = "a replica serves ranges and watches: ask a peer";
  throw new RpcError("unimplemented", text);
}

export function readOnlyServices(served: {
  readonly range: KvService["range"];
  readonly openWatch: WatchService["open"];
}): Services {
  return {
    // No write begins here, so none needs a floor from here.
    appliedIndex: 0,
    kv: {
      range: served.range,
      rangeStream: refuse,
      put: refuse,
      deleteRange: refuse,
      txn: refuse,
      compact: refuse,
    },
    watch: { open: served.openWatch },
    lease: { grant: refuse, revoke: refuse, keepAlive: refuse, timeToLive: refuse, leases: refuse },
    cluster: {
      isLearner: () => false,
      memberList: refuse,
      memberAdd: refuse,
      memberRemove: refuse,
      memberUpdate: refuse,
      memberPromote: refuse,
      memberChange: refuse,
    },
    maintenance: {
      alarm: refuse,
      status: refuse,
      hashKv: refuse,
      hash: refuse,
      defragment: refuse,
      snapshot: refuse,
      downgrade: refuse,
      moveLeader: refuse,
    },
  };
}
