/**
 * How many operations this peer has carried out since its start, as etcd counts them: a replayed log entry counts
 * again, and what a transaction did counts by operation. Plain numbers, for metrics alone: nothing depends on them.
 */
export class OperationCounts {
  puts = 0;
  /** Requests to delete, whatever they found; of a revoked lease, its keys. */
  deletes = 0;
  ranges = 0;
  /** Transactions of more than one operation. */
  transactions = 0;

  get operations(): number {
    return this.puts + this.deletes + this.ranges;
  }

  /** Counts a transaction if so many operations make one. */
  transaction(operations: number): void {
    if (operations > 1) this.transactions += 1;
  }
}
