/**
 * How a member with an empty data directory finds out whom it joins: one of the peer URLs that
 * --initial-cluster names is asked for the members (GET /members, as etcd does), and what the flags
 * say is checked against the answer. `member add` must have come first; it gave this member the id
 * that is found here by its peer URLs.
 */
import * as http from "node:http";
import * as https from "node:https";
import type { ConnectionOptions } from "node:tls";
import { setTimeout as sleep } from "node:timers/promises";
import { parseExactJson } from "../shared/base/exact-json.ts";
import type { PeerMember } from "../shared/peer/peer.ts";
import type { Config } from "./config/config.ts";

export interface JoinedCluster {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  /** All members, this one included. */
  readonly members: readonly PeerMember[];
}

export interface JoinOptions {
  readonly config: Pick<Config, "name" | "initialCluster" | "peerSecret">;
  /** TLS options for dialling members. */
  readonly tls: () => ConnectionOptions;
}

/** The members as one of them tells. */
export interface ToldCluster {
  readonly clusterId: bigint;
  readonly members: readonly PeerMember[];
}

/** This member can't join: the text says why, and what to do. */
export class JoinError extends Error {
  override readonly name = "JoinError";
}

const ASK_MILLISECONDS = 2000;
const PAUSE_MILLISECONDS = 500;
/** All URLs are tried so often: the cluster may be busy electing, or still starting. */
const ROUNDS = 6;
/** The answer of a cluster with very many members of very many URLs. */
const ANSWER_BYTES_MAX = 1024 * 1024;

/** Throws `JoinError` when nobody answers, or the answer doesn't fit the flags. */
export async function findCluster(options: JoinOptions): Promise<JoinedCluster> {
  const { name, initialCluster } = options.config;
  const others = [...initialCluster].filter(([each]) => each !== name).flatMap(([, urls]) => urls);
  if (others.length === 0) {
    throw new JoinError(
      "--initial-cluster names no other member to join: list all members, this one included",
    );
  }
  return matchCluster(await askAny(others, options), options.config);
}

/** Finds this member in what was told. Each member must have an entry of --initial-cluster. */
export function matchCluster(
  told: ToldCluster,
  config: Pick<Config, "name" | "initialCluster">,
): JoinedCluster {
  const { initialCluster, name } = config;
  const list = told.members.map(({ peerUrls }) => peerUrls.join(",")).join(" ");
  if (told.members.length !== initialCluster.size) {
    throw new JoinError(
      `member count is unequal: --initial-cluster names ${initialCluster.size} members, the cluster has ` +
        `${told.members.length} (${list}): add this member first, then start it with all of them`,
    );
  }
  let memberId: bigint | undefined;
  for (const { id, peerUrls } of told.members) {
    const entry = [...initialCluster].find(([, urls]) => sameUrls(urls, peerUrls));
    if (entry === undefined) {
      throw new JoinError(
        `--initial-cluster has no entry with the peer URLs of member ${id.toString(16)}: ${peerUrls.join(",")}`,
      );
    }
    if (entry[0] === name) memberId = id;
  }
  // As many entries as members, each member with one: then each entry has a member, unless two share.
  if (memberId === undefined) {
    throw new JoinError(`the cluster has no member with the peer URLs of ${name}: add it first`);
  }
  return { ...told, memberId };
}

async function askAny(urls: readonly string[], options: JoinOptions): Promise<ToldCluster> {
  let reasons: string[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    if (round > 0) await sleep(PAUSE_MILLISECONDS);
    reasons = [];
    for (const url of urls) {
      try {
        return readAnswer(await ask(url, options));
      } catch (error) {
        reasons.push(`${url}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  }
  throw new JoinError(
    `could not retrieve cluster information from the given URLs (${reasons.join("; ")}): the members that ` +
      "--initial-cluster names must be running",
  );
}

interface Answer {
  readonly clusterId: string;
  readonly body: string;
}

function ask(url: string, { config, tls }: JoinOptions): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const target = new URL("/members", url);
    const secure = target.protocol === "https:";
    const { peerSecret } = config;
    const headers = peerSecret === undefined ? {} : { authorization: `Bearer ${peerSecret}` };
    const common = { headers, agent: false, signal: AbortSignal.timeout(ASK_MILLISECONDS) };
    const receive = (response: http.IncomingMessage): void => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        body += chunk;
        if (body.length > ANSWER_BYTES_MAX) response.destroy(new Error("the answer is too long"));
      });
      response.on("error", reject);
      response.on("end", () => {
        const clusterId = response.headers["x-etcd-cluster-id"];
        if (response.statusCode !== 200 || typeof clusterId !== "string") {
          reject(new Error(`answers ${response.statusCode} ${body.trim().slice(0, 200)}`));
        } else resolve({ clusterId, body });
      });
    };
    const request = secure
      ? https.get(target, { ...tls(), ...common }, receive)
      : http.get(target, common, receive);
    request.on("error", reject);
  });
}

function readAnswer({ clusterId, body }: Answer): ToldCluster {
  const list = parseExactJson(body);
  if (!Array.isArray(list) || list.length === 0) throw new Error("answers no members");
  return { clusterId: BigInt(`0x${clusterId}`), members: list.map(memberOf) };
}

function memberOf(value: { id?: unknown; name?: unknown; peerURLs?: unknown } | null): PeerMember {
  const { id, name, peerURLs } = value ?? {};
  const isId = typeof id === "string" || typeof id === "number";
  const usable = isId && Array.isArray(peerURLs);
  if (!usable || !peerURLs.every((url) => typeof url === "string")) {
    throw new Error("answers something else than members");
  }
  return { id: BigInt(id), name: typeof name === "string" ? name : "", peerUrls: peerURLs };
}

function sameUrls(a: readonly string[], b: readonly string[]): boolean {
  const normal = (urls: readonly string[]): string =>
    urls
      .map((url) => (URL.canParse(url) ? new URL(url).href : url))
      .toSorted()
      .join(",");
  return normal(a) === normal(b);
}
