/** node-runner/wal: the promises of every log store, on the crashable disk and on the real one. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NodeFiles } from "../../../../node-runner/files/node-files.ts";
import { WriteAheadLog } from "../../../../node-runner/wal/write-ahead-log.ts";
import { Prng } from "../../../../shared/base/prng.ts";
import type { LogStore } from "../../../../shared/raft/log-store.ts";
import { logStoreConformance } from "../../raft/log-store-conformance.ts";
import { IDENTITY, ManualDisk, openLog } from "./wal-fixture.ts";

logStoreConformance("write-ahead log, power failures", () => {
  const disk = new ManualDisk();
  const prng = new Prng(5);
  const open = (): LogStore => openLog(disk, { segmentBytes: 4096 });
  return {
    store: open(),
    settle: () => disk.drain(),
    reopen: () => {
      disk.files.crash(prng);
      disk.forget();
      return open();
    },
  };
});

logStoreConformance("write-ahead log, real disk", async () => {
  const directory = await mkdtemp(join(tmpdir(), "quorate-wal-"));
  const open = (): WriteAheadLog =>
    WriteAheadLog.open({
      files: new NodeFiles(),
      directory,
      identity: IDENTITY,
      salt: 9,
      segmentBytes: 8192,
      onFault: (fault) => {
        throw fault;
      },
    });
  return {
    store: open(),
    settle: async (store) => {
      const log = store as WriteAheadLog;
      while (log.facts.unreported > 0) await new Promise((resolve) => setImmediate(resolve));
    },
    reopen: async (store) => {
      await (store as WriteAheadLog).close();
      return open();
    },
    remove: async (store) => {
      await (store as WriteAheadLog).close();
      await rm(directory, { recursive: true, force: true });
    },
  };
});
