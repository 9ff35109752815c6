/** A write-ahead log on the crashable disk, with the steps that its tests share. */
import { MemoryFiles } from "../../../../node-runner/files/memory-files.ts";
import { WriteAheadLog } from "../../../../node-runner/wal/write-ahead-log.ts";
import type { LogWrite } from "../../../../shared/raft/log-store.ts";
import type { Entry, HardState } from "../../../../shared/raft/types.ts";

export const DIRECTORY = "wal";
export const IDENTITY = { clusterId: 0xc1n, memberId: 0xffff_ffff_ffff_fff1n };

/** A disk whose completions wait until `step` runs the oldest, or `drain` all of them. */
export class ManualDisk {
  readonly #queue: (() => void)[] = [];
  readonly files = new MemoryFiles((run) => this.#queue.push(run));
  readonly schedule = (run: () => void): void => void this.#queue.push(run);

  step(): boolean {
    const run = this.#queue.shift();
    run?.();
    return run !== undefined;
  }

  drain(): void {
    while (this.step());
  }

  /** What was waiting never happens. */
  forget(): void {
    this.#queue.length = 0;
  }
}

export function openLog(
  disk: ManualDisk,
  options: { segmentBytes?: number; onFault?: (fault: Error) => void; memberId?: bigint } = {},
): WriteAheadLog {
  return WriteAheadLog.open({
    files: disk.files,
    directory: DIRECTORY,
    identity: { ...IDENTITY, memberId: options.memberId ?? IDENTITY.memberId },
    salt: 0xfeed_f00d,
    schedule: disk.schedule,
    segmentBytes: options.segmentBytes ?? 64 * 1024,
    onFault:
      options.onFault ??
      ((fault) => {
        throw fault;
      }),
  });
}

export function entry(index: number, term: number, bytes = 10): Entry {
  return { index, term, kind: "normal", data: new Uint8Array(bytes).fill(index) };
}

export function entriesFrom(first: number, count: number, term: number, bytes = 10): Entry[] {
  return Array.from({ length: count }, (_, place) => entry(first + place, term, bytes));
}

export function write(sequence: number, parts: Partial<LogWrite>): LogWrite {
  const nothing = { snapshot: undefined, hardState: undefined, entries: [], mustSync: true };
  return { ...nothing, ...parts, sequence };
}

export function hardState(term: number, commit: number, vote?: string): HardState {
  return { term, vote, commit };
}

/** The whole content, comparable. */
export function contentOf(log: WriteAheadLog): unknown {
  return {
    hardState: log.hardState,
    before: [log.firstIndex - 1, log.termOf(log.firstIndex - 1)],
    entries: log.slice(log.firstIndex, log.lastIndex + 1, Infinity),
  };
}
