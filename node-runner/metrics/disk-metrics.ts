/** etcd's histograms of the disk, which its dashboards and alerts begin with. */
import { exponentialBuckets, Gauge, Histogram, type Registry } from "prom-client";

/** Hears how long the disk took, in seconds. */
export interface DiskTimes {
  /** A group of log entries is durable. */
  logged(seconds: number): void;
  /** A batch of the database is. */
  committed(seconds: number): void;
}

/** etcd's: from 1 ms to 8 s, each twice the one before. */
const BUCKETS = exponentialBuckets(0.001, 2, 14);

export function diskMetrics(registry: Registry): DiskTimes {
  const histogram = (name: string, help: string) =>
    new Histogram({ name, help, buckets: BUCKETS, registers: [registry] });
  const log = histogram(
    "etcd_disk_wal_fsync_duration_seconds",
    "Durable writes of the write-ahead log.",
  );
  const backend = histogram(
    "etcd_disk_backend_commit_duration_seconds",
    "Commits of the database.",
  );
  return {
    logged: (seconds) => log.observe(seconds),
    committed: (seconds) => backend.observe(seconds),
  };
}

/** `facts`: of the log, asked when the registry is. */
export function addLogMetrics(registry: Registry, facts: () => { readonly bytes: number }): void {
  void new Gauge({
    name: "etcd_disk_wal_write_bytes_total",
    help: "Bytes written to the write-ahead log since start.",
    registers: [registry],
    collect() {
      this.set(facts().bytes);
    },
  });
}
