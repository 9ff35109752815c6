/**
 * Etcd's checks of a downgrade. The storage has one format so far, so there is nothing to
 * enable: a downgrade that etcd would take is answered as unimplemented.
 */
import { RpcError, rpcError } from "../../api/errors.ts";
import { ETCD_CLUSTER_VERSION } from "../services.ts";

/** The cluster's version as the answer names it: major and minor. Throws `RpcError`. */
export function checkDowngrade(action: "validate" | "enable" | "cancel", target: string): string {
  const own = minorOf(ETCD_CLUSTER_VERSION);
  const cluster = `${own.major}.${own.minor}`;
  if (action === "cancel") return cluster; // Also when none is under way.
  const { major, minor } = minorOf(target);
  if (major !== own.major || minor !== own.minor - 1)
    throw rpcError("invalidDowngradeTargetVersion");
  if (action === "enable") {
    throw new RpcError("unimplemented", "downgrades are not implemented by quorate");
  }
  return cluster;
}

function minorOf(version: string): { readonly major: number; readonly minor: number } {
  const match = /^(\d{1,9})\.(\d{1,9})(?:\.\d{1,9}(?:[-+][\w.+-]+)?)?$/.exec(version);
  if (match === null) throw rpcError("wrongDowngradeVersionFormat");
  return { major: Number(match[1]), minor: Number(match[2]) };
}
