/**
 * The named places at which a member is killed. Production code knows none of them: a child process
 * (`crash-child.ts`) puts decorators around the seams that the code has anyway - the disk, the
 * host's log, backend and transport - and dies at the n-th passing of the one that it was told.
 */
import { Environment } from "../../node-runner/lmdb/environment.ts";
import type { Backend, ShadowBackend } from "../../shared/backend/backend.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import type { Host, PeerTransport } from "../../shared/peer/host.ts";
import type { FilePoint } from "../support/hooked-files.ts";

/** What every member passes while it takes writes. */
export const WRITE_POINTS = [
  "wal-before-write",
  "wal-written-unsynced",
  "wal-synced-unreported",
  "segment-before-create",
  "segment-created",
  "segment-written-unsynced",
  "segment-synced-unlinked",
  "segment-linked",
  "synced-unapplied",
  "applied-unanswered",
  "commit-before",
  "commit-after",
  "log-before-cut",
  "log-segment-before-removal",
  "log-segment-removed",
  "log-cut-unflushed",
] as const;

/** What a member passes that receives a snapshot, and the one that sends it. */
export const RECEIVER_POINTS = [
  "snapshot-received-chunk",
  "snapshot-before-install",
  "snapshot-switched",
  "snapshot-installed-untold",
] as const;
const SENDER_POINTS = ["snapshot-sent-chunk"] as const;

/** What a member passes whose database is defragmented. */
export const DEFRAGMENT_POINTS = [
  "defragment-before",
  "generation-before-switch",
  "generation-switched-unsynced",
  "generation-switched",
  "defragment-done",
] as const;

export type Failpoint =
  | (typeof DEFRAGMENT_POINTS)[number]
  | (typeof WRITE_POINTS)[number]
  | (typeof RECEIVER_POINTS)[number]
  | (typeof SENDER_POINTS)[number];

export type Pass = (point: Failpoint) => void;

/** The object with some of its methods replaced; everything else goes to the object itself. */
function overriding<Target extends object>(target: Target, methods: Partial<Target>): Target {
  return new Proxy(target, {
    get(_target, name) {
      const value: unknown = Reflect.get(name in methods ? methods : target, name);
      return typeof value === "function" && !(name in methods)
        ? (value as (...args: unknown[]) => unknown).bind(target)
        : value;
    },
    set: (_target, name, value) => Reflect.set(target, name, value),
  });
}

const SEGMENT = /\/[0-9a-f]{16}-[0-9a-f]{16}\.wal$/;
const CURRENT = /\/db\/CURRENT$/;
const SPARE = /\/spare\.wal$/;

/** The points of the write-ahead log's files, and of the switch from one database to the next. */
export function passFiles({ when, call, path, to }: FilePoint, pass: Pass): void {
  if (to !== undefined && CURRENT.test(to)) {
    pass(when === "before" ? "generation-before-switch" : "generation-switched-unsynced");
  }
  if (call === "syncDirectory" && path.endsWith("/db") && when === "after") {
    pass("generation-switched");
  }
  const begins = call === "create" ? SEGMENT.test(path) : SPARE.test(path) && call === "rename";
  if (begins) pass(when === "before" ? "segment-before-create" : "segment-created");
  const removes = call === "remove" ? SEGMENT.test(path) : to !== undefined && SPARE.test(to);
  if (removes) pass(when === "before" ? "log-segment-before-removal" : "log-segment-removed");
  if (call === "writeDurable") {
    pass(when === "before" ? "wal-before-write" : "wal-synced-unreported");
  }
  if (call === "sync" && SEGMENT.test(path)) {
    pass(when === "before" ? "segment-written-unsynced" : "segment-synced-unlinked");
  }
  if (call === "syncDirectory" && path.endsWith("/wal") && when === "after") {
    pass("segment-linked");
  }
}

/** LMDB's commits have no seam: here, and only here, the class is patched. */
export function passCommits(pass: Pass): void {
  const original = Reflect.get(Environment.prototype, "commit");
  Environment.prototype.commit = async function commit(this: Environment, batch): Promise<void> {
    pass("commit-before");
    await original.call(this, batch);
    pass("commit-after");
  };
}

export function passHost(host: Host, pass: Pass): Host {
  const { log, backend, transport } = host;
  return {
    ...host,
    log: overriding(log, {
      compact(index) {
        pass("log-before-cut");
        log.compact(index);
        pass("log-cut-unflushed");
      },
    }),
    backend: passBackend(backend, pass),
    transport: passTransport(transport, pass),
  };
}

function passBackend(backend: Backend, pass: Pass): Backend {
  return overriding(backend, {
    apply(index, fill) {
      pass("synced-unapplied");
      backend.apply(index, fill);
      pass("applied-unanswered");
    },
    async defragment() {
      pass("defragment-before");
      await backend.defragment();
      pass("defragment-done");
    },
    shadow: () => passShadow(backend.shadow(), pass),
  });
}

function passShadow(shadow: ShadowBackend, pass: Pass): ShadowBackend {
  return overriding(shadow, {
    apply(fill) {
      shadow.apply(fill);
      pass("snapshot-received-chunk");
    },
    async install(index, switched) {
      pass("snapshot-before-install");
      await shadow.install(index, () => {
        pass("snapshot-switched");
        switched?.();
      });
      pass("snapshot-installed-untold");
    },
  });
}

function passTransport(transport: PeerTransport, pass: Pass): PeerTransport {
  return overriding(transport, {
    sendSnapshot: (to, mark, chunks) => transport.sendSnapshot(to, mark, passed(chunks, pass)),
  });
}

async function* passed(chunks: AsyncIterable<Bytes>, pass: Pass): AsyncGenerator<Bytes> {
  for await (const chunk of chunks) {
    yield chunk;
    pass("snapshot-sent-chunk");
  }
}
