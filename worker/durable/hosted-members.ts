/**
 * Members of a cluster of Node peers that live in this Worker's Durable Objects: which there are, at
 * which of the Worker's hosts the others dial each, and the object that it is.
 */
import { RpcError } from "../../shared/api/errors.ts";

/** What the Worker is told of them. */
export interface HostedEnv {
  /**
   * `name=peer URL`, separated by commas: the URL is the one that `member add` was given, scheme,
   * host and port, and its host is one of the Worker's.
   */
  readonly QUORATE_MEMBERS?: string;
  /** Secret: what members show each other, as the Node peers have it. Without it loopback alone. */
  readonly QUORATE_PEER_SECRET?: string;
  /** "required": members must also show a client certificate, which Cloudflare checks. */
  readonly QUORATE_PEER_CERTS?: string;
}

export interface HostedMember {
  readonly name: string;
  readonly url: string;
}

const PREFIX = "member:";

/** Throws `RpcError` with what is wrong. */
export function hostedMembers({ QUORATE_MEMBERS }: HostedEnv): HostedMember[] {
  const listed = (QUORATE_MEMBERS ?? "").split(",").filter((each) => each.trim() !== "");
  const members = listed.map((each) => {
    const [name = "", url = ""] = each.trim().split(/=(.*)/, 2);
    if (!/^[\w.-]{1,100}$/.test(name) || !/^https?:\/\/[^/?#\s]+:\d{1,5}$/.test(url)) {
      throw new RpcError(
        "failedPrecondition",
        `QUORATE_MEMBERS has "${each.trim()}": write name=https://host:port`,
      );
    }
    return { name, url };
  });
  const hosts = new Set(members.map(({ url }) => hostOf(url)));
  const names = new Set(members.map(({ name }) => name));
  if (hosts.size < members.length || names.size < members.length) {
    throw new RpcError("failedPrecondition", "QUORATE_MEMBERS names a member or a host twice");
  }
  return members;
}

/** The member whose peer URL has the host of this URL. */
export function memberAt(url: string, env: HostedEnv): HostedMember | undefined {
  return hostedMembers(env).find((member) => hostOf(member.url) === hostOf(url));
}

/** The name of the object that a member is. */
export function objectNameOf(member: HostedMember): string {
  return `${PREFIX}${member.name}`;
}

/** The member that an object of this name is; undefined: it is another cluster's voter. */
export function memberOfObject(objectName: string, env: HostedEnv): HostedMember | undefined {
  if (!objectName.startsWith(PREFIX)) return undefined;
  const name = objectName.slice(PREFIX.length);
  const member = hostedMembers(env).find((each) => each.name === name);
  if (member === undefined) throw new Error(`QUORATE_MEMBERS names no member "${name}"`);
  return member;
}

/** The base URL under which the edge finds a member of its own; its host is no address. */
export function hostedUrl(name: string): string {
  return `http://member/${name}`;
}

/** The object that such a URL leads to; undefined: it is another URL. */
export function hostedObjectOf(url: string): string | undefined {
  const name = /^(?:http|ws):\/\/member\/([\w.-]+)\//.exec(url)?.[1];
  return name === undefined ? undefined : `${PREFIX}${name}`;
}

/** Without the scheme's usual port. */
function hostOf(url: string): string {
  return new URL(url).host;
}
