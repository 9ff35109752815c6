/** The mutants of watches and leases: a part of the table in `mutant-table.ts`. */
import type { Mutant } from "./mutants.ts";

export const WATCH_AND_LEASE_MUTANTS: readonly Mutant[] = [
  {
    name: "watchSkipsARevision",
    breaks: "a watcher that was too full goes on one revision too late",
    edits: [
      {
        file: "shared/mvcc/watchers.ts",
        find: "        this.#fallBehind(watcher, revision);",
        replace: "        this.#fallBehind(watcher, revision + 1);",
      },
    ],
    seedsMax: 40,
  },
  {
    name: "watchRepeatsARevision",
    breaks: "a watcher that was too full is told its last revision again",
    edits: [
      {
        file: "shared/mvcc/watchers.ts",
        find: "        this.#fallBehind(watcher, revision);",
        replace: "        this.#fallBehind(watcher, revision - 1);",
      },
    ],
    seedsMax: 40,
  },
  {
    name: "keepaliveUnconfirmed",
    breaks: "a deposed leader answers keepalives, whatever its own clock says",
    edits: [
      {
        file: "shared/peer/service/lease-service.ts",
        find: `    this.#context.consensus.confirm(
      { confirmed, failed: waiting.reject },
      call.timeoutMilliseconds,
    );`,
        replace: "    confirmed();",
      },
      {
        file: "shared/lease/backend-lessor.ts",
        find: "if (!this.#leads || record === undefined || record.deadline <= now) return undefined;",
        replace: "if (!this.#leads || record === undefined) return undefined;",
      },
    ],
    seedsMax: 300,
  },
  {
    name: "expiryOfAnOlderTerm",
    breaks: "a leader that was deposed goes on ending leases, and apply takes it",
    edits: [
      {
        file: "shared/peer/service/lease-keeper.ts",
        find: "const wanted = leads && state.appliedTerm === term ? term : undefined;",
        replace: "const wanted = leads && state.appliedTerm === term ? term : this.#term;",
      },
      {
        file: "shared/peer/consensus/consensus.ts",
        find: '    if (this.#stopped || !leads || current !== term || this.#raft.role !== "leader") return;',
        replace: "    if (this.#stopped || (leads && current < term)) return;",
      },
      {
        file: "shared/peer/state/state-machine.ts",
        find: "if (decidedIn !== undefined && decidedIn !== batch.entryTerm) return this.#done();",
        replace: "",
      },
    ],
    seedsMax: 200,
  },
  {
    name: "leasesNotExtended",
    breaks: "a new leader doesn't give leases their whole time anew",
    edits: [
      {
        file: "shared/lease/backend-lessor.ts",
        find: "record.deadline = options.now + options.extendMilliseconds + record.ttlSeconds * 1000;",
        replace: "record.deadline = options.now + record.ttlSeconds * 100;",
      },
    ],
    seedsMax: 60,
  },
  {
    name: "leaseClockTooFast",
    breaks: "leases end after two thirds of their time",
    edits: [
      {
        file: "shared/lease/backend-lessor.ts",
        find: "    record.deadline = now + record.ttlSeconds * 1000;\n    return record.ttlSeconds;",
        replace:
          "    record.deadline = now + record.ttlSeconds * 660;\n    return record.ttlSeconds;",
      },
    ],
    seedsMax: 40,
  },
];
