/**
 * The mutants: one row each, by the part that they break. Kept beside the code that they change by
 * an exact text.
 */
import type { Mutant } from "./mutants.ts";
import { WATCH_AND_LEASE_MUTANTS } from "./watch-and-lease-mutants.ts";

export const MUTANTS: readonly Mutant[] = [
  // The log and the disk.
  {
    name: "skipFlush",
    breaks: "records of the log are written, and never flushed",
    edits: [
      {
        file: "node-runner/wal/write-ahead-log.ts",
        find: "file.writeDurable(position, sealed, (fault) => this.#endGroup(fault));",
        replace: "file.write(position, sealed); this.#schedule(() => this.#endGroup(undefined));",
      },
    ],
    seedsMax: 40,
  },
  {
    name: "durableBeforeFlush",
    breaks: "the log tells that a record is durable while its write is under way",
    edits: [
      {
        file: "node-runner/wal/write-ahead-log.ts",
        find: "file.writeDurable(position, sealed, (fault) => this.#endGroup(fault));",
        replace:
          "file.writeDurable(position, sealed, (fault) => fault && this.#fail(fault)); this.#schedule(() => this.#endGroup(undefined));",
      },
    ],
    seedsMax: 60,
  },
  {
    name: "failedFlushIgnored",
    breaks: "the log goes on after a flush has failed",
    edits: [
      {
        file: "node-runner/wal/write-ahead-log.ts",
        find: "if (fault !== undefined) return this.#fail(fault);",
        replace: "",
      },
    ],
    seedsMax: 40,
  },
  {
    name: "rotTakenForTheEnd",
    breaks: "an unreadable record ends the log, although later ones show that it was durable",
    edits: [
      {
        file: "node-runner/wal/replay.ts",
        find: "if (found === undefined) return;",
        replace: "if (found === undefined || true) return;",
      },
      {
        file: "node-runner/wal/replay.ts",
        find: "if (rest.length > 1) throw this.#damage",
        replace: "if (rest.length > 1_000) throw this.#damage",
      },
    ],
    seedsMax: 60,
  },
  {
    name: "logCutBeforeBackendFlushed",
    breaks: "the log is cut behind what is applied, not behind what the backend holds durably",
    edits: [
      {
        file: "shared/peer/consensus/consensus.ts",
        find: "const target = Math.min(backend.durableIndex, wanted);",
        replace: "const target = wanted;",
      },
    ],
    seedsFrom: 130,
    seedsMax: 300,
  },
  {
    name: "appliedIndexApart",
    breaks: "the applied index isn't written with the effects: entries are applied twice",
    edits: [
      {
        file: "shared/backend/memory-backend.ts",
        find: "this.#durable = { tables: new Tables(this.#tables), index: this.#visibleIndex };",
        replace:
          "this.#durable = { tables: new Tables(this.#tables), index: Math.max(this.#durable.index, this.#visibleIndex - 3) };",
      },
    ],
    seedsMax: 60,
  },

  // Consensus.
  {
    name: "ackBeforeDurable",
    breaks: "acknowledgements and votes leave before what they vouch for is durable",
    edits: [
      {
        file: "shared/peer/consensus/durable-queue.ts",
        find: "if (batch.writtenSequence > this.#durable) break;",
        replace: "",
      },
    ],
    seedsMax: 60,
  },
  {
    name: "termAndVoteForgotten",
    breaks: "a restart begins with the log's term, without the term and vote that were stored",
    edits: [
      {
        file: "shared/peer/consensus/open-raft.ts",
        find: "const stored = log.hardState ?? { term: 0, vote: undefined, commit: 0 };",
        replace:
          "const stored = { term: log.termOf(log.lastIndex) ?? 0, vote: undefined, commit: log.hardState?.commit ?? 0 };",
      },
    ],
    seedsMax: 300,
  },
  {
    name: "voteTwice",
    breaks: "a member votes for everyone who asks in a term",
    edits: [
      {
        file: "shared/raft/election.ts",
        find: "const free = core.vote === undefined && core.leader === undefined;",
        replace: "const free = true;",
      },
    ],
    seedsMax: 100,
  },
  {
    name: "voteForShorterLog",
    breaks: "a vote doesn't ask whether the candidate's log is complete",
    edits: [
      {
        file: "shared/raft/election.ts",
        find: "const granted = mayVote && core.log.isUpToDate(request.lastIndex, request.lastTerm);",
        replace: "const granted = mayVote;",
      },
    ],
    seedsMax: 60,
  },
  {
    name: "termNotChecked",
    breaks: "messages of older terms count like those of the current one",
    edits: [
      {
        file: "shared/raft/raft.ts",
        find: `    if (message.term < core.term) this.#answerStale(message);
    else if (message.term === core.term || this.#enterTermOf(message)) this.#dispatch(message);`,
        replace:
          "    if (message.term <= core.term || this.#enterTermOf(message)) this.#dispatch(message);",
      },
    ],
    seedsMax: 60,
  },
  {
    name: "commitByMinority",
    breaks: "an entry is committed by one member too few",
    edits: [
      {
        file: "shared/raft/quorum.ts",
        find: "return values[count - majority] as number;",
        replace: "return values[Math.min(count - 1, count - majority + 1)] as number;",
      },
    ],
    seedsMax: 40,
  },
  {
    name: "logNotMatched",
    breaks: "a follower takes entries without comparing what comes before them",
    edits: [
      {
        file: "shared/raft/follower.ts",
        find: "if (!log.matches(append.previousIndex, append.previousTerm)) {",
        replace: "if (append.previousIndex > log.lastIndex) {",
      },
    ],
    seedsMax: 250,
  },
  {
    name: "proposalForwardedTwice",
    breaks: "a forwarded proposal enters the log twice",
    edits: [
      {
        file: "shared/raft/raft.ts",
        find: "    return proposeAsLeader(core, entries);",
        replace:
          "    if (core.log.lastIndex % 16 === 0) proposeAsLeader(core, entries);\n    return proposeAsLeader(core, entries);",
      },
    ],
    seedsMax: 20,
  },

  // Reads.
  {
    name: "forwardedInAnyTerm",
    breaks: "a forwarded proposal is taken or passed on in a later term than its own",
    edits: [
      {
        file: "shared/raft/raft.ts",
        find: `    if (core.role !== "leader" || term !== core.term) return "noLeader";
    return proposeAsLeader(core, entries);`,
        replace: "    return propose(core, entries);",
      },
    ],
    seedsMax: 250,
  },
  {
    name: "copiesTaken",
    breaks: "a leader takes a forwarded proposal again when it is sent again",
    edits: [
      {
        file: "shared/peer/consensus/forwarded-proposals.ts",
        find: "return sequence === undefined || !taken.has(sequence);",
        replace: "return true;",
      },
      {
        file: "shared/peer/consensus/forwarded-proposals.ts",
        find: "if (sequence !== undefined) taken.add(sequence);",
        replace: "",
      },
    ],
    seedsMax: 60,
  },
  {
    name: "proposedAgainTooSoon",
    breaks: "what an old leader took is proposed again before the new one's first entry is applied",
    edits: [
      {
        file: "shared/peer/consensus/proposals.ts",
        find: `  leaderFound(): void {
    this.#due = true;`,
        replace: `  leaderFound(): void {
    this.#due = true;
    for (const each of this.#pending.values()) {
      if (each.takenIn !== undefined) this.#queue.push(each);
      each.takenIn = undefined;
    }`,
      },
    ],
    seedsMax: 20,
  },
  {
    name: "proposedAgainAfterSnapshot",
    breaks: "what a snapshot may have brought is proposed again",
    edits: [
      {
        file: "shared/peer/consensus/proposals.ts",
        find: "if (proposal.takenIn !== undefined) proposal.mayBeApplied = true;",
        replace: "",
      },
    ],
    seedsMax: 60,
  },
  {
    name: "readWithoutQuorum",
    breaks: "a leader answers reads without asking whether it still leads",
    edits: [
      {
        file: "shared/raft/reading.ts",
        find: "if (!hasLease(core, now)) return core.reads.add(read);",
        replace: "",
      },
    ],
    seedsMax: 100,
  },
  {
    name: "readJoinsOlderRound",
    breaks: "a read joins a confirmation that began before it arrived",
    edits: [
      {
        file: "shared/peer/consensus/confirmations.ts",
        find: "    this.#joining.push({ owner, deadline });",
        replace: `    const [underWay] = this.#rounds.values();
    if (underWay === undefined) this.#joining.push({ owner, deadline });
    else underWay.waiters = [...underWay.waiters, { owner, deadline }];`,
      },
    ],
    seedsMax: 200,
  },
  {
    name: "readBeforeApplied",
    breaks: "a confirmed read doesn't wait until its index is applied",
    edits: [
      {
        file: "shared/peer/consensus/confirmations.ts",
        find: "if (state.index <= applied) this.#tell(confirmed);",
        replace: "if (state.index >= 0) this.#tell(confirmed);",
      },
    ],
    seedsMax: 20,
  },

  // Reads under a leader's lease.
  {
    name: "leaseFromTheAnswer",
    breaks:
      "a lease is counted from when the heartbeats' answers came, not from when they were sent",
    edits: [
      {
        file: "shared/raft/leader-lease.ts",
        find: "return sentAt + milliseconds * (1 - this.#config.driftMax);",
        replace: "return (this.#tickedAt ?? 0) + milliseconds * (1 - this.#config.driftMax);",
      },
    ],
    leaseReads: true,
    seedsFrom: 90,
    seedsMax: 250,
  },
  {
    name: "leaseKeptInTransfer",
    breaks: "a leader that hands over goes on reading under its lease",
    edits: [
      {
        file: "shared/raft/transfer.ts",
        find: "core.lease.forfeit();",
        replace: "",
      },
    ],
    leaseReads: true,
    seedsMax: 100,
  },

  // Apply and snapshots.
  {
    name: "applyAsksTheClock",
    breaks: "what apply does depends on the member's own clock",
    edits: [
      {
        file: "shared/peer/state/state-machine.ts",
        find: "return this.#write(batch, (context) => applyPut(command, context));",
        replace: `return this.#write(batch, (context) => {
          const value = Math.floor(batch.now) % 40 === 0 ? command.value.slice(1) : command.value;
          return applyPut({ ...command, value }, context);
        });`,
      },
    ],
    seedsMax: 20,
  },
  {
    name: "snapshotWithoutItsEnd",
    breaks: "a snapshot is installed without the last row of each of its parts",
    edits: [
      {
        file: "shared/peer/consensus/snapshot-intake.ts",
        find: "for (const [key, value] of chunk.rows) writer.put(chunk.table, key, value);",
        replace:
          "for (const [key, value] of chunk.rows.slice(0, -1)) writer.put(chunk.table, key, value);",
      },
    ],
    seedsMax: 60,
  },
  {
    name: "snapshotWithoutMembers",
    breaks: "raft doesn't take the members over that a snapshot names",
    edits: [
      {
        file: "shared/raft/follower.ts",
        find: "core.tracker.setMembership(snapshot.membership, log.lastIndex);",
        replace: "",
      },
    ],
    seedsMax: 150,
  },
  {
    name: "jointChangeStays",
    breaks: "a joint change of the members never ends",
    edits: [
      {
        file: "shared/raft/proposals.ts",
        find: "appendEntries(core, LEAVE_JOINT);",
        replace: "if (core.id === '') appendEntries(core, LEAVE_JOINT);",
      },
    ],
    jointChanges: true,
    seedsMax: 60,
  },
  {
    name: "retriedWriteAppliedAgain",
    breaks: "a write that was sent again is applied again",
    edits: [
      {
        file: "shared/peer/state/state-machine.ts",
        find: 'if (memory.kind === "known") return decodeOutcome(memory.outcome);',
        replace: "",
      },
    ],
    seedsMax: 60,
  },
  {
    name: "compactedStillRead",
    breaks: "revisions are answered although they were compacted",
    edits: [
      {
        file: "shared/mvcc/mvcc-store.ts",
        find: 'if (revision < this.#compactRevision) return { code: "compacted" };',
        replace: "",
      },
    ],
    seedsMax: 60,
  },
  {
    name: "compactionDropsLiveRows",
    breaks: "a compaction removes the newest row of a key when it is older than its target",
    edits: [
      {
        file: "shared/mvcc/backend-compaction.ts",
        find: "if (entry.tombstone && entry.main < this.#target) remove(writer, newest);",
        replace: "if (entry.main < this.#target) remove(writer, newest);",
      },
    ],
    seedsMax: 60,
  },

  ...WATCH_AND_LEASE_MUTANTS,
];
