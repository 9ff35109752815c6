/** node-runner/wal: the write-ahead log keeps the promises of a log store. */
import { Prng } from "../../../../shared/base/prng.ts";
import { logStoreConformance } from "../../raft/log-store-conformance.ts";
import { ManualDisk, openLog } from "./wal-fixture.ts";

logStoreConformance("write-ahead log", () => {
  const disk = new ManualDisk();
  return {
    store: openLog(disk, { segmentBytes: 4096 }),
    settle: () => disk.drain(),
    reopen: () => {
      disk.forget();
      disk.files.crash(new Prng(1));
      return openLog(disk, { segmentBytes: 4096 });
    },
  };
});
