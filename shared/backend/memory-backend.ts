/**
 * A backend in memory: for the simulator, for tests, and as the model that the durable ones are
 * compared with. Each table is an `OrderedMap`; a pin is a clone of the maps, which costs O(1) and
 * copies only what is changed later.
 *
 * `durability: "flush"` makes it a disk's twin: only `flush` moves `durableIndex`, and `crashed`
 * returns what a machine that lost its power would find. `"atOnce"` (the default) makes every
 * `apply` durable.
 */
import { assert, assertCount } from "../base/assert.ts";
import { OrderedMap } from "../base/ordered-map.ts";
import type { Bytes } from "../base/bytes.ts";
import {
  type Backend,
  BackendError,
  type BackendReader,
  type BackendSizes,
  type BatchWriter,
  KEY_BYTES_MAX,
  type PinnedReader,
  type ScanOptions,
  type ShadowBackend,
  type Table,
  TABLES,
} from "./backend.ts";

export interface MemoryBackendOptions {
  readonly durability?: "atOnce" | "flush";
}

/** All tables of one state. */
class Tables implements BackendReader {
  readonly maps: Record<Table, OrderedMap<Bytes>>;
  /** Bytes of all keys and values. */
  bytes: number;

  constructor(source?: Tables) {
    const entries = TABLES.map((table) => [
      table,
      source === undefined ? new OrderedMap<Bytes>() : source.maps[table].clone(),
    ]);
    this.maps = Object.fromEntries(entries) as Record<Table, OrderedMap<Bytes>>;
    this.bytes = source?.bytes ?? 0;
  }

  get(table: Table, key: Bytes): Bytes | undefined {
    return this.maps[table].get(key);
  }

  scan(table: Table, options: ScanOptions, visit: (key: Bytes, value: Bytes) => boolean): void {
    this.maps[table].scan(options, visit);
  }

  put(table: Table, key: Bytes, value: Bytes): void {
    assert(key.length > 0 && key.length <= KEY_BYTES_MAX, `a key of ${key.length} bytes`);
    const replaced = this.maps[table].set(key, value);
    this.bytes +=
      replaced === undefined ? key.length + value.length : value.length - replaced.length;
  }

  delete(table: Table, key: Bytes): void {
    const removed = this.maps[table].delete(key);
    if (removed !== undefined) this.bytes -= key.length + removed.length;
  }
}

interface State {
  readonly tables: Tables;
  readonly index: number;
}

export class MemoryBackend implements Backend {
  readonly #durability: "atOnce" | "flush";
  #tables = new Tables();
  #visibleIndex = 0;
  /** What a crash leaves, under "flush". */
  #durable: State = { tables: new Tables(), index: 0 };
  #state: "open" | "applying" | "broken" | "closed" = "open";

  constructor(options: MemoryBackendOptions = {}) {
    this.#durability = options.durability ?? "atOnce";
  }

  get visibleIndex(): number {
    return this.#visibleIndex;
  }

  get durableIndex(): number {
    return this.#durability === "atOnce" ? this.#visibleIndex : this.#durable.index;
  }

  get congested(): boolean {
    return false;
  }

  get(table: Table, key: Bytes): Bytes | undefined {
    this.#assertUsable();
    return this.#tables.get(table, key);
  }

  scan(table: Table, options: ScanOptions, visit: (key: Bytes, value: Bytes) => boolean): void {
    this.#assertUsable();
    this.#tables.scan(table, options, visit);
  }

  apply(index: number, fill: (writer: BatchWriter) => void): void {
    this.#assertUsable();
    assert(this.#state === "open", "no apply inside an apply");
    assertCount(index, "index");
    assert(index >= this.#visibleIndex, `index ${index} falls behind ${this.#visibleIndex}`);
    this.#state = "applying";
    try {
      fill(this.#tables);
    } catch (cause) {
      this.#state = "broken";
      throw cause;
    }
    this.#state = "open";
    this.#visibleIndex = index;
  }

  flush(): void {
    this.#assertUsable();
    if (this.#durability === "atOnce") return;
    this.#durable = { tables: new Tables(this.#tables), index: this.#visibleIndex };
  }

  pin(): PinnedReader {
    this.#assertUsable();
    const tables = new Tables(this.#tables);
    let released = false;
    return {
      index: this.#visibleIndex,
      get(table, key) {
        assert(!released, "a released pin is not read");
        return tables.get(table, key);
      },
      scan(table, options, visit) {
        assert(!released, "a released pin is not read");
        tables.scan(table, options, visit);
      },
      release() {
        released = true;
      },
    };
  }

  shadow(): ShadowBackend {
    this.#assertUsable();
    const tables = new Tables();
    let open = true;
    return {
      congested: false,
      apply(fill) {
        assert(open, "the shadow is gone");
        fill(tables);
      },
      install: async (index, switched) => {
        assert(open, "the shadow is gone");
        this.#assertUsable();
        open = false;
        this.#tables = tables;
        this.#visibleIndex = assertCount(index, "index");
        this.#durable = { tables: new Tables(tables), index };
        switched?.();
      },
      async discard() {
        open = false;
      },
    };
  }

  sizes(): BackendSizes {
    this.#assertUsable();
    return { totalBytes: this.#tables.bytes, inUseBytes: this.#tables.bytes };
  }

  async defragment(): Promise<void> {
    this.#assertUsable();
  }

  async close(): Promise<void> {
    this.flush();
    this.#state = "closed";
  }

  /** A new backend with what was durable; this one must not be used any more. */
  crashed(): MemoryBackend {
    const survivor = new MemoryBackend({ durability: this.#durability });
    const durable =
      this.#durability === "atOnce"
        ? { tables: this.#tables, index: this.#visibleIndex }
        : this.#durable;
    survivor.#tables = new Tables(durable.tables);
    survivor.#visibleIndex = durable.index;
    survivor.#durable = { tables: new Tables(durable.tables), index: durable.index };
    this.#state = "closed";
    return survivor;
  }

  #assertUsable(): void {
    if (this.#state === "open" || this.#state === "applying") return;
    throw new BackendError(
      this.#state === "closed" ? "the backend is closed" : "a fill has thrown",
    );
  }
}
