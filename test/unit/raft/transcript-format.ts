/** How transcripts write raft's things down: entries as `term/index "command"`, messages in words. */
import { textOf } from "../../../shared/base/bytes.ts";
import type { Entry, Membership, Message, RaftStatus, Ready } from "../../../shared/raft/types.ts";

const SHOWN_CHARACTERS = 12;

function textOfData(data: Uint8Array): string {
  if (data.length === 0) return "";
  const text = textOf(data);
  if (text.length <= SHOWN_CHARACTERS || text.includes(":")) return ` ${text}`;
  return ` (${data.length} bytes)`;
}

function formatEntry({ term, index, kind, data }: Entry): string {
  const prefix = kind === "membership" ? " membership" : "";
  return `${term}/${index}${prefix}${textOfData(data)}`;
}

export function formatEntries(entries: readonly Entry[]): string {
  return entries.map(formatEntry).join(", ");
}

export function formatMessage(message: Message): string {
  return `${message.from}->${message.to} ${message.type}, term ${message.term}${details(message)}`;
}

function details(message: Message): string {
  switch (message.type) {
    case "append": {
      const { previousTerm, previousIndex, entries, commit } = message;
      const carried = entries.length === 0 ? "" : `, entries ${formatEntries(entries)}`;
      return `, after ${previousTerm}/${previousIndex}${carried}, commit ${commit}`;
    }
    case "appendReply":
      if (!message.reject) return `, has ${message.index}`;
      return `, rejects ${message.index}, hint ${message.hintTerm}/${message.hintIndex}`;
    case "heartbeat":
      return `, commit ${message.commit}${roundOf(message)}${sentAtOf(message)}`;
    case "heartbeatReply": {
      const { promisedMilliseconds } = message;
      const promise =
        promisedMilliseconds === undefined ? "" : `, promises ${promisedMilliseconds} ms`;
      return `${roundOf(message)}${promise}${sentAtOf(message)}`;
    }
    case "vote":
    case "preVote": {
      const reason = message.transfer ? ", transfer" : "";
      return `, log up to ${message.lastTerm}/${message.lastIndex}${reason}`;
    }
    case "voteReply":
    case "preVoteReply":
      return message.reject ? ", refused" : ", granted";
    case "snapshot": {
      const { term, index, membership } = message.snapshot;
      return `, at ${term}/${index}, ${formatMembership(membership)}`;
    }
    case "propose":
      return `, ${message.entries.map((each) => textOfData(each.data).trim()).join(", ")}`;
    case "readIndex":
      return "";
    case "readIndexReply":
      return `, index ${message.index}`;
    case "transferLeader":
      return `, to ${message.transferee}`;
    case "timeoutNow":
      return "";
    default:
      return "";
  }
}

function roundOf({ round }: { readonly round: number }): string {
  return round > 0 ? `, round ${round}` : "";
}

function sentAtOf({ sentAt }: { readonly sentAt?: number | undefined }): string {
  return sentAt === undefined ? "" : `, sent at ${sentAt}`;
}

export function formatMembership(membership: Membership): string {
  const { voters, learners, votersOutgoing, learnersNext, autoLeave } = membership;
  const parts = [`voters ${voters.join(" ")}`];
  if (votersOutgoing.length > 0) parts.push(`outgoing ${votersOutgoing.join(" ")}`);
  if (learners.length > 0) parts.push(`learners ${learners.join(" ")}`);
  if (learnersNext.length > 0) parts.push(`learners next ${learnersNext.join(" ")}`);
  if (autoLeave) parts.push("leaves by itself");
  return parts.join(", ");
}

/** A batch, a line for each part that isn't empty. */
export function formatReady(id: string, ready: Ready): string[] {
  const lines = [`${id}: ready ${ready.sequence}`];
  const { softState, hardState, entries, snapshot, committed } = ready;
  if (softState !== undefined) {
    lines.push(`  is ${softState.role}, leader ${softState.leader ?? "unknown"}`);
  }
  if (snapshot !== undefined) {
    const { term, index, membership } = snapshot;
    lines.push(`  installs ${term}/${index}, ${formatMembership(membership)}`);
  }
  if (hardState !== undefined) {
    const { term, vote, commit } = hardState;
    lines.push(`  stores term ${term}, vote ${vote ?? "none"}, commit ${commit}`);
  }
  if (entries.length > 0) lines.push(`  writes ${formatEntries(entries)}`);
  for (const each of ready.messages) lines.push(`  sends ${formatMessage(each)}`);
  for (const each of ready.messagesAfterDurable) {
    lines.push(`  once durable ${formatMessage(each)}`);
  }
  if (committed.length > 0) lines.push(`  applies ${formatEntries(committed)}`);
  for (const { context, index } of ready.readStates) {
    lines.push(`  read ${context} confirmed at ${index}`);
  }
  return lines;
}

export function formatStatus(status: RaftStatus): string[] {
  const { id, role, term, leader, commit, applied, lastIndex, transferee } = status;
  const marks = `log ${lastIndex}, commit ${commit}, applied ${applied}`;
  const transfer = transferee === undefined ? "" : `, hands over to ${transferee}`;
  const lines = [
    `${id}: ${role}, term ${term}, leader ${leader ?? "unknown"}, ${marks}${transfer}`,
  ];
  for (const [member, progress] of status.progress) {
    if (member === id) continue;
    const { match, next, state, recentlyActive, learner } = progress;
    const notes = `${recentlyActive ? "" : ", inactive"}${learner ? ", learner" : ""}`;
    lines.push(`  ${member}: ${state}, match ${match}, next ${next}${notes}`);
  }
  return lines;
}
