/**
 * `quorate member change`: adds, promotes and removes several members at once, by joint consensus.
 * Ids are in hexadecimal, as `etcdctl member list` prints them. Exit codes: 0 done, 1 it was refused
 * or its outcome isn't known, and standard error says which, 2 wrong usage.
 */
import * as http from "node:http";
import * as https from "node:https";
import { parseArgs } from "node:util";
import { MEMBER_CHANGE_PATH } from "../http/member-change.ts";
import type { CommandOutput } from "./commands.ts";
import { ENDPOINT_FLAGS, endpointOf } from "./endpoint-flags.ts";
import { usageText } from "./usage.ts";

/** Longer than a member waits: 5 s and two elections. */
const ANSWER_MILLISECONDS = 120_000;

interface Wanted {
  readonly url: URL;
  readonly body: string;
  readonly tls: https.RequestOptions;
}

interface ListedMember {
  readonly ID: string;
  readonly name?: string;
  readonly peerURLs?: readonly string[];
  readonly isLearner?: boolean;
}

export async function memberChange(
  args: readonly string[],
  output: CommandOutput,
): Promise<number> {
  let wanted: Wanted;
  try {
    wanted = parse(args);
  } catch (error) {
    output.err(usageText((error as Error).message, "member change"));
    return 2;
  }
  try {
    const { status, text } = await post(wanted);
    const answer = JSON.parse(text) as {
      message?: string;
      added?: readonly ListedMember[];
      members?: readonly ListedMember[];
    };
    if (status !== 200) throw new Error(answer.message ?? text);
    const added = new Set(answer.added?.map(({ ID }) => ID));
    for (const member of answer.members ?? []) output.out(lineOf(member, added.has(member.ID)));
    return 0;
  } catch (error) {
    output.err(`quorate member change: ${(error as Error).message}\n`);
    return 1;
  }
}

/** Throws what is wrong with the arguments. */
function parse(args: readonly string[]): Wanted {
  const list = { type: "string", multiple: true, default: [] as string[] } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      add: list,
      "add-learner": list,
      promote: list,
      remove: list,
      ...ENDPOINT_FLAGS,
    },
  });
  const wanted = [values.add, values["add-learner"], values.promote, values.remove];
  if (wanted.every(({ length }) => length === 0)) throw new Error("no change is named");
  const added = (urls: readonly string[], isLearner: boolean) =>
    urls.map((each) => ({ peerURLs: each.split(","), isLearner }));
  const body = JSON.stringify({
    add: [...added(values.add, false), ...added(values["add-learner"], true)],
    promote: values.promote.map(decimalOf),
    remove: values.remove.map(decimalOf),
  });
  const { endpoint, tls } = endpointOf(values, "name a single endpoint, of any member that votes");
  return { url: new URL(MEMBER_CHANGE_PATH, endpoint), body, tls };
}

function decimalOf(id: string): string {
  if (!/^[0-9a-f]{1,16}$/i.test(id)) throw new Error(`"${id}" is no member's id in hexadecimal`);
  return BigInt(`0x${id}`).toString();
}

/** Rejects when there is no answer: then nobody knows if the change was made. */
function post({ url, body, tls }: Wanted): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json" };
    const options = { method: "POST", headers, timeout: ANSWER_MILLISECONDS };
    const request =
      url.protocol === "https:"
        ? https.request(url, { ...options, ...tls })
        : http.request(url, options);
    request.on("timeout", () => request.destroy(new Error("it took too long")));
    request.on("error", (cause) =>
      reject(new Error(`no answer from ${url.host}: ${cause.message}`, { cause })),
    );
    request.on("response", (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (piece: string) => (text += piece));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
      response.on("error", reject);
    });
    request.end(body);
  });
}

function lineOf({ ID, name = "", peerURLs = [], isLearner }: ListedMember, isNew: boolean): string {
  const role = isLearner === true ? "learner" : "voter";
  const fields = [BigInt(ID).toString(16), name, peerURLs.join(","), role];
  return `${fields.join(", ")}${isNew ? ", added" : ""}\n`;
}
