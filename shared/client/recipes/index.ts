/** What can be built of keys, leases and watches: locks, elections, queues and the like. */
export { Barrier, DoubleBarrier } from "./barrier.ts";
export { Election } from "./election.ts";
export type { Leader, Leadership } from "./election.ts";
export { LiveRange, LiveValue } from "./live.ts";
export { Mutex, ReadWriteLock, Semaphore } from "./mutex.ts";
export { PriorityQueue, Queue } from "./queue.ts";
export type { QueueItem } from "./queue.ts";
export { Services, register } from "./services.ts";
export type { Balance, Registration, ServiceEndpoint } from "./services.ts";
export { Session, openSession } from "./session.ts";
export type { AnyStore, HoldOptions, SessionOptions } from "./session.ts";
export { StmRun, atomically } from "./stm.ts";
export type { Holding, WaitOptions } from "./waiting-line.ts";
