/**
 * Writes to a member's storage under a limit of file sizes, until a fault: `node
 * storage-full-child.ts DIRECTORY PART`. Prints the fault, what is durable, and "closed" when
 * closing ended as well.
 */
import { openStorage } from "../../node-runner/data-dir/storage.ts";
import { utf8 } from "../../shared/base/bytes.ts";

const [dataDir, part] = process.argv.slice(2) as [string, "log" | "database"];
const faults: Error[] = [];
let durable = 0;
const storage = await openStorage({
  dataDir,
  identity: { clusterId: 1n, memberId: 1n },
  walSegmentBytes: 64 * 1024,
  onFault: (first) => {
    console.log(`fault: ${first.message}`);
    faults.push(first);
  },
});
const { log, backend } = storage;
log.onDurable = (sequence) => (durable = sequence);
for (let index = 1; index <= 2000 && faults.length === 0; index += 1) {
  // One entry is larger than a file may be.
  const data = new Uint8Array(part === "log" && index === 100 ? 8 * 1024 * 1024 : 10);
  const entry = { term: 1, index, kind: "normal" as const, data };
  const write = { sequence: index, snapshot: undefined, hardState: undefined, mustSync: true };
  log.append({ ...write, entries: [entry] });
  backend.apply(index, (writer) => {
    const value = new Uint8Array(part === "database" ? 20_000 : 10);
    writer.put("key", utf8(`k${index}`), value);
  });
  await new Promise((resolve) => setImmediate(resolve));
}
const give = setTimeout(() => process.exit(9), 60_000);
while (faults.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
let refused = "none";
try {
  backend.get("key", utf8("k1"));
} catch (error) {
  refused = (error as Error).name;
}
console.log(`durable in the log: ${durable}; reads refused: ${refused}`);
await storage.close();
clearTimeout(give);
console.log("closed");
