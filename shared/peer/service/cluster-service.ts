/** The cluster's members. Answers carry no revision, as etcd's don't. */
import type { CallContext, ClusterService, Header, Member } from "../services.ts";
import type { ServiceContext } from "./context.ts";

export function createClusterService(context: ServiceContext): ClusterService {
  return {
    memberList(
      options: { linearizable: boolean },
      call: CallContext,
    ): Promise<{ header: Header; members: readonly Member[] }> {
      return context.atReadPoint({ serializable: !options.linearizable }, call, () => ({
        header: context.header(0),
        members: context.state.members.members,
      }));
    },
  };
}
