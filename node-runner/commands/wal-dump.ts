/**
 * `quorate wal dump DIRECTORY [--json]`: prints a write-ahead log, one line for each segment,
 * record, item and stop. DIRECTORY is the log's folder or a member's data directory. With `--json`
 * each line is a JSON object; byte strings are base64 there and numbers past 53 bits text. Exit
 * codes: 0 the log was read to its end, 1 something durable is damaged or of another version, 2
 * wrong usage.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Bytes } from "../../shared/base/bytes.ts";
import { CommandError, decodeCommand } from "../../shared/wire/command-codec.ts";
import type { LogCommand } from "../../shared/wire/command.ts";
import { NodeFiles } from "../files/node-files.ts";
import type { Finding } from "../wal/dump.ts";
import { dumpLog } from "../wal/dump.ts";
import type { Item } from "../wal/layout.ts";
import type { CommandOutput } from "./commands.ts";
import { usageText } from "./usage.ts";

/** Longer byte strings are cut in the text form. */
const SHOWN_BYTES_MAX = 64;

/** A finding with its entry's command decoded, as far as it can be. */
export type DumpLine = Finding & {
  readonly command?: LogCommand;
  /** Why the command couldn't be decoded. */
  readonly undecodable?: string;
};

export async function walDump(args: readonly string[], output: CommandOutput): Promise<number> {
  const directories = args.filter((argument) => argument !== "--json");
  const [directory] = directories;
  if (directory === undefined || directories.length > 1 || directory.startsWith("-")) {
    output.err(usageText("one directory is needed", "wal dump"));
    return 2;
  }
  const inMember = join(directory, "member", "wal");
  const folder = existsSync(inMember) ? inMember : directory;
  if (!existsSync(folder)) {
    output.err(`quorate wal dump: ${folder} doesn't exist\n`);
    return 2;
  }
  const show = args.includes("--json") ? jsonOf : textOf;
  let [segments, damaged] = [0, false];
  for (const finding of dumpLog(new NodeFiles(), folder)) {
    if (finding.kind === "segment") segments += 1;
    if (finding.kind === "stop" && finding.damage) damaged = true;
    output.out(`${show(decoded(finding))}\n`);
  }
  if (segments === 0) output.err(`quorate wal dump: no segment of a log in ${folder}\n`);
  return damaged ? 1 : 0;
}

function decoded(finding: Finding): DumpLine {
  if (finding.kind !== "item" || finding.item.kind !== "entry") return finding;
  const { entry } = finding.item;
  if (entry.data.length === 0) return finding;
  try {
    return { ...finding, command: decodeCommand(entry.data) };
  } catch (cause) {
    if (!(cause instanceof CommandError)) throw cause;
    return { ...finding, undecodable: cause.message };
  }
}

function jsonOf(line: DumpLine): string {
  return JSON.stringify(line, (_name, value: unknown) => {
    if (typeof value === "bigint") return value.toString();
    if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
    return value;
  });
}

function hex(value: number | bigint, digits = 0): string {
  return value.toString(16).padStart(digits, "0");
}

function textOf(line: DumpLine): string {
  switch (line.kind) {
    case "segment":
      return `segment ${line.path}: format ${line.format}, salt ${hex(line.salt, 8)}, ${line.bytes} bytes`;
    case "record": {
      const { start, end, ordinal, crc, previous } = line.record;
      return `${at(start)} record ${ordinal}: ${end - start} bytes, crc ${hex(crc, 8)} behind ${hex(previous, 8)}`;
    }
    case "item":
      return `${at(line.offset)}   ${itemText(line.item, line.bytes)}${commandText(line)}`;
    case "stop":
      return `${at(line.offset)} stop in ${line.path}: ${line.reason}`;
  }
}

function at(offset: number): string {
  return offset.toString().padStart(8);
}

function itemText(item: Item, bytes: number): string {
  switch (item.kind) {
    case "segment": {
      const { identity, sequence, base } = item.start;
      const who = `cluster ${hex(identity.clusterId)}, member ${hex(identity.memberId)}`;
      return `segment ${sequence}: ${who}, behind index ${base.index} term ${base.term}`;
    }
    case "hardState": {
      const { term, vote, commit } = item.hardState;
      return `hard state: term ${term}, vote ${vote ?? "none"}, commit ${commit}`;
    }
    case "entry": {
      const { term, index, kind, data } = item.entry;
      return `entry: term ${term} index ${index} ${kind}, ${bytes} bytes, ${data.length} of data`;
    }
    default:
      return `${item.kind}: index ${item.position.index} term ${item.position.term}`;
  }
}

function commandText(line: DumpLine): string {
  if (line.undecodable !== undefined) return `: ${line.undecodable}`;
  if (line.command === undefined) return "";
  const { request, command } = line.command;
  const { kind, ...fields } = command;
  const from =
    request === undefined
      ? ""
      : ` from ${hex(request.member)}/${hex(request.incarnation)}#${request.sequence}`;
  return `: ${kind} ${JSON.stringify(fields, shown)}${from}`;
}

function shown(_name: string, value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  return value instanceof Uint8Array ? shownBytes(value) : value;
}

/** Text where it is printable ASCII, else hexadecimal digits; long ones are cut. */
function shownBytes(bytes: Bytes): string {
  const head = bytes.subarray(0, SHOWN_BYTES_MAX);
  const printable = head.every((byte) => byte >= 0x20 && byte < 0x7f);
  const text = Buffer.from(head).toString(printable ? "latin1" : "hex");
  const prefix = printable ? "" : "0x";
  const rest = bytes.length - head.length;
  return rest === 0 ? `${prefix}${text}` : `${prefix}${text}... (${rest} bytes more)`;
}
