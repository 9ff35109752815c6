/**
 * The methods of etcdserverpb.Auth that a cluster without users answers: authentication is not
 * enabled. Clients that are configured with a name and a password ask first, and go on without a
 * token when they hear so.
 */
import { Auth } from "../../api/gen/etcdserverpb/rpc_pb.js";
import { rpcError } from "../../api/errors.ts";
import type { MaintenanceService } from "../services.ts";
import { unary, type ProtoMethod } from "./method.ts";
import { headerMessage } from "./replies.ts";

/** Etcd's, before anything about users has changed. */
const FIRST_AUTH_REVISION = 1n;

export function authMethods(
  maintenance: MaintenanceService,
): Readonly<Record<string, ProtoMethod>> {
  return {
    Authenticate: unary(
      Auth.method.authenticate,
      (): Promise<never> => Promise.reject(rpcError("authNotEnabled")),
      { message: (answer) => answer },
    ),
    AuthStatus: unary(Auth.method.authStatus, (_request, call) => maintenance.status(call), {
      message: ({ header }) => ({
        header: headerMessage(header),
        enabled: false,
        authRevision: FIRST_AUTH_REVISION,
      }),
    }),
  };
}
