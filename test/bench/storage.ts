/**
 * What the node's storage costs: the write-ahead log under 1, 100 and 1000 writers that each wait
 * for their own write, and the LMDB backend under puts of three rows (key, revision, meta), with
 * the memory it takes.
 *
 *     node --expose-gc test/bench/storage.ts [log|backend]
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { NodeFiles } from "../../node-runner/files/node-files.ts";
import { LmdbBackend } from "../../node-runner/lmdb/lmdb-backend.ts";
import { WriteAheadLog } from "../../node-runner/wal/write-ahead-log.ts";
import { writeUint64 } from "../../shared/base/bytes.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { Prng } from "../../shared/base/prng.ts";

const ENTRY_BYTES = 320;
const files = new NodeFiles();

function fail(fault: Error): never {
  throw fault;
}

async function withDirectory(run: (directory: string) => Promise<void>): Promise<void> {
  // Not in the system's folder of temporary files, which may be in memory.
  const directory = mkdtempSync(join(process.env["BENCH_DIR"] ?? tmpdir(), "quorate-bench-"));
  try {
    await run(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function benchLog(directory: string, writers: number, entries: number): Promise<void> {
  const identity = { clusterId: 1n, memberId: 1n };
  const log = WriteAheadLog.open({ files, directory, identity, salt: 1, onFault: fail });
  const data = new Uint8Array(ENTRY_BYTES);
  const started = new Float64Array(entries + 1);
  const latencies: number[] = [];
  let index = 0;
  const append = (): void => {
    index += 1;
    started[index] = performance.now();
    const entry = { term: 1, index, kind: "normal" as const, data };
    log.append({
      sequence: index,
      snapshot: undefined,
      hardState: undefined,
      entries: [entry],
      mustSync: true,
    });
  };
  const records = log.facts.records;
  const bytes = log.facts.bytes;
  const cpu = process.cpuUsage();
  const main = process.threadCpuUsage();
  const start = performance.now();
  await new Promise<void>((resolve) => {
    let durable = 0;
    log.onDurable = (sequence) => {
      const now = performance.now();
      for (; durable < sequence; durable += 1) {
        latencies.push(now - (started[durable + 1] as number));
        if (index < entries) append();
      }
      if (durable === entries) resolve();
    };
    for (let writer = 0; writer < writers; writer += 1) append();
  });
  const milliseconds = performance.now() - start;
  const used = process.cpuUsage(cpu);
  const mainUsed = process.threadCpuUsage(main);
  latencies.sort((a, b) => a - b);
  const at = (share: number) => (latencies[Math.floor(latencies.length * share)] as number) * 1000;
  const perEntry = (value: number): string => (value / entries).toFixed(2);
  console.log(
    `log, ${writers} writers: ${Math.round((entries / milliseconds) * 1000)} appends/s, p50 ` +
      `${at(0.5).toFixed(0)} us, p99 ${at(0.99).toFixed(0)} us, entries per record ` +
      `${(entries / (log.facts.records - records)).toFixed(1)}, CPU ${perEntry(used.user + used.system)} us per ` +
      `entry (main thread ${perEntry(mainUsed.user + mainUsed.system)}), ${perEntry(log.facts.bytes - bytes)} bytes per entry`,
  );
  await log.close();
}

function keyOf(number: number): Bytes {
  const key = new Uint8Array(40);
  writeUint64(key, 0, Math.imul(number, 2_654_435_761) >>> 0);
  writeUint64(key, 8, number);
  return key;
}

function put(backend: LmdbBackend, number: number, index: number): void {
  backend.apply(index, (writer) => {
    const key = keyOf(number);
    const revision = new Uint8Array(17);
    writeUint64(revision, 0, index);
    writer.put("key", key, revision);
    writer.put("revision", revision, new Uint8Array(ENTRY_BYTES));
    writer.put("meta", META_KEY, revision);
  });
}

const META_KEY = Uint8Array.of(1);

async function settle(backend: LmdbBackend): Promise<void> {
  backend.flush();
  while (backend.durableIndex < backend.visibleIndex) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

function memory(): string {
  globalThis.gc?.();
  const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage();
  const mib = (bytes: number): string => (bytes / 1024 / 1024).toFixed(0);
  const status = readFileSync("/proc/self/status", "utf8");
  const anonymous = Number(/RssAnon:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024;
  return `rss ${mib(rss)} MiB (anonymous ${mib(anonymous)}), heap ${mib(heapUsed)}, external ${mib(external)}, buffers ${mib(arrayBuffers)}`;
}

async function benchBackend(directory: string, keys: number): Promise<void> {
  const backend = LmdbBackend.open({ files, directory, onFault: fail });
  console.log(`backend, empty: ${memory()}`);
  const cpu = process.cpuUsage();
  const main = process.threadCpuUsage();
  const start = performance.now();
  let waits = 0;
  for (let index = 1; index <= keys; index += 1) {
    put(backend, index, index);
    while (backend.congested) {
      waits += 1;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    // As a peer does, in batches per turn of the event loop.
    if (index % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await settle(backend);
  const milliseconds = performance.now() - start;
  const used = process.cpuUsage(cpu);
  const mainUsed = process.threadCpuUsage(main);
  const perPut = (usage: NodeJS.CpuUsage): string =>
    ((usage.user + usage.system) / keys).toFixed(2);
  console.log(
    `backend, ${keys} puts of 3 rows: ${Math.round((keys / milliseconds) * 1000)} puts/s to the ` +
      `disk, CPU ${perPut(used)} us per put (main thread ${perPut(mainUsed)}), waited ${waits} times`,
  );
  console.log(`backend, ${keys} keys: ${memory()}, sizes ${JSON.stringify(backend.sizes())}`);
  benchReads(backend, keys, "committed");
  for (let index = 1; index <= 3000; index += 1) put(backend, index, keys + index);
  benchReads(backend, keys, "3000 puts pending");
  await backend.close();
}

function benchReads(backend: LmdbBackend, keys: number, state: string): void {
  const prng = new Prng(7);
  const rounds = 20_000;
  const cpuOf = (work: () => void): number => {
    const start = process.threadCpuUsage();
    work();
    const used = process.threadCpuUsage(start);
    return used.user + used.system;
  };
  const timed = (read: (key: Bytes) => void): string => {
    const used = cpuOf(() => {
      for (let round = 0; round < rounds; round += 1) read(keyOf(prng.between(1, keys)));
    });
    return (used / rounds).toFixed(2);
  };
  const get = timed((key) => backend.get("key", key));
  const last = timed((end) => backend.scan("key", { end, reverse: true }, () => false));
  let rows = 0;
  const used = cpuOf(() => {
    backend.scan("revision", {}, () => {
      rows += 1;
      return rows < 100_000;
    });
  });
  const row = (used / rows).toFixed(2);
  console.log(
    `backend, ${state}: get ${get} us, scan of one row ${last} us, row of a scan ${row} us`,
  );
}

const part = process.argv[2];
console.log(`machine: ${cpus().length} cores, load ${loadavg()[0]?.toFixed(2)}`);
if (part !== "backend") {
  for (const [writers, entries] of [
    [1, 3000],
    [100, 60_000],
    [1000, 200_000],
  ] as const) {
    await withDirectory((directory) => benchLog(directory, writers, entries));
  }
}
if (part !== "log") await withDirectory((directory) => benchBackend(directory, 200_000));
