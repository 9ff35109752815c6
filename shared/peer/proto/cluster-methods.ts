/** The methods of etcdserverpb.Cluster. */
import { Cluster } from "../../api/gen/etcdserverpb/rpc_pb.js";
import type { ClusterService, MembersAnswer } from "../services.ts";
import { unary, type ProtoMethod } from "./method.ts";
import { headerWithoutRevision, memberMessage } from "./replies.ts";

export function clusterMethods(cluster: ClusterService): Readonly<Record<string, ProtoMethod>> {
  return {
    MemberAdd: unary(
      Cluster.method.memberAdd,
      ({ peerURLs, isLearner }, call) => cluster.memberAdd({ peerUrls: peerURLs, isLearner }, call),
      {
        message: (answer) => ({ ...membersMessage(answer), member: memberMessage(answer.member) }),
      },
    ),
    MemberRemove: unary(
      Cluster.method.memberRemove,
      ({ ID: id }, call) => cluster.memberRemove(id, call),
      { message: membersMessage },
    ),
    MemberUpdate: unary(
      Cluster.method.memberUpdate,
      ({ ID: id, peerURLs: peerUrls }, call) => cluster.memberUpdate({ id, peerUrls }, call),
      { message: membersMessage },
    ),
    MemberList: unary(
      Cluster.method.memberList,
      ({ linearizable }, call) => cluster.memberList({ linearizable }, call),
      { message: membersMessage },
    ),
    MemberPromote: unary(
      Cluster.method.memberPromote,
      ({ ID: id }, call) => cluster.memberPromote(id, call),
      { message: membersMessage },
    ),
  };
}

function membersMessage({ header, members }: MembersAnswer) {
  return { header: headerWithoutRevision(header), members: members.map(memberMessage) };
}
