/**
 * Which watchers match which events, without looking at each watcher: those that want the same range, filters and
 * start form a group; the groups stand in a map of keys and a tree of intervals; and groups that match the same
 * events share one list of them.
 *
 * That sharing works by a tree of matches: a group starts each round at the root, and each event it matches moves it
 * to the child for that event. Groups that end at the same node matched the same events. Its list is made once, when
 * first asked for.
 */
import { assert } from "../base/assert.ts";
import type { Bytes } from "../base/bytes.ts";
import { IntervalTree } from "../base/interval-tree.ts";
import { OrderedMap } from "../base/ordered-map.ts";
import { isOpenEnd } from "./key-walk.ts";
import type { Event } from "./types.ts";
import type { WatchBatch, WatchFilters } from "./watch-registry.ts";

/** What one group matched in a round: `parent`'s events and then `event`. */
class MatchNode {
  readonly #parent: MatchNode | undefined;
  readonly #event: Event | undefined;
  /** The first child stands apart: mostly there is no other. */
  #firstChild: MatchNode | undefined;
  #children: Map<Event, MatchNode> | undefined;
  #batch: WatchBatch | undefined;

  constructor(parent?: MatchNode, event?: Event) {
    this.#parent = parent;
    this.#event = event;
  }

  child(event: Event): MatchNode {
    if (this.#firstChild === undefined) {
      this.#firstChild = new MatchNode(this, event);
      return this.#firstChild;
    }
    if (this.#firstChild.#event === event) return this.#firstChild;
    this.#children ??= new Map();
    let child = this.#children.get(event);
    if (child === undefined) {
      child = new MatchNode(this, event);
      this.#children.set(event, child);
    }
    return child;
  }

  /** The batch of these events; the same object for all who ask. */
  batch(headerRevision: number): WatchBatch {
    if (this.#batch !== undefined) return this.#batch;
    assert(this.#event !== undefined, "a batch has an event");
    const events: Event[] = [];
    this.#collect(events);
    const lastRevision = this.#event.kv.modRevision;
    this.#batch = { events, headerRevision, lastRevision, encoded: new Map() };
    return this.#batch;
  }

  /** Appends the events on the way from the root, in order; a loop because the way may be long. */
  #collect(events: Event[]): void {
    const way: MatchNode[] = [this];
    for (let parent = this.#parent; parent !== undefined; parent = parent.#parent) way.push(parent);
    for (const node of way.toReversed()) if (node.#event !== undefined) events.push(node.#event);
  }
}

/** Watchers that match alike. */
export interface WatchGroup<Member> {
  readonly filters: WatchFilters;
  /** Events before this revision are not theirs. */
  readonly fromRevision: number;
  readonly members: Set<Member>;
  /** Where this round's matches have led; undefined: none yet. */
  match: MatchNode | undefined;
}

/** What names a group beside its filters and start. */
export interface WatchRange {
  readonly key: Bytes;
  /** etcd's convention. */
  readonly rangeEnd: Bytes;
}

export class WatchGroups<Member> {
  /** Groups of one key, by key: found several times faster than as intervals, and mostly the many. */
  readonly #keys = new OrderedMap<WatchGroup<Member>[]>();
  readonly #ranges = new IntervalTree<WatchGroup<Member>[]>();
  #root = new MatchNode();
  #matched: WatchGroup<Member>[] = [];

  /** `fromRevision` 0: the groups' start is no matter here. */
  add(member: Member, range: WatchRange, filters: WatchFilters, fromRevision = 0): void {
    const end = intervalEnd(range);
    const isKey = range.rangeEnd.length === 0;
    let groups = isKey ? this.#keys.get(range.key) : this.#ranges.get(range.key, end);
    if (groups === undefined) {
      groups = [];
      if (isKey) this.#keys.set(range.key, groups);
      else this.#ranges.set(range.key, end, groups);
    }
    let group = groups.find((other) => isSameGroup(other, filters, fromRevision));
    if (group === undefined) {
      group = { filters, fromRevision, members: new Set(), match: undefined };
      groups.push(group);
    }
    group.members.add(member);
  }

  remove(member: Member, range: WatchRange, filters: WatchFilters, fromRevision = 0): void {
    const end = intervalEnd(range);
    const isKey = range.rangeEnd.length === 0;
    const groups = isKey ? this.#keys.get(range.key) : this.#ranges.get(range.key, end);
    const place = groups?.findIndex((other) => isSameGroup(other, filters, fromRevision)) ?? -1;
    assert(groups !== undefined && place >= 0, "a member is removed from where it was added");
    const { members } = groups[place] as WatchGroup<Member>;
    assert(members.delete(member), "a member is in its group");
    if (members.size > 0) return;
    groups.splice(place, 1);
    if (groups.length > 0) return;
    if (isKey) this.#keys.delete(range.key);
    else this.#ranges.delete(range.key, end);
  }

  /** All members, in no order. */
  members(): Member[] {
    const members: Member[] = [];
    const collect = (groups: readonly WatchGroup<Member>[]) => {
      for (const group of groups) for (const member of group.members) members.push(member);
    };
    this.#ranges.forEach(collect);
    this.#keys.scan({}, (_key, groups) => {
      collect(groups);
      return true;
    });
    return members;
  }

  /** True if some group would match a change of this key. */
  covers(key: Bytes): boolean {
    let covered = this.#keys.get(key) !== undefined;
    if (!covered)
      this.#ranges.stab(key, () => {
        covered = true;
      });
    return covered;
  }

  /** Notes the groups that match the event. */
  match(event: Event): void {
    const groups = this.#keys.get(event.kv.key);
    if (groups !== undefined) this.#matchAll(groups, event);
    this.#ranges.stab(event.kv.key, (others) => this.#matchAll(others, event));
  }

  /** Ends a round: what each group matched since the last one. Groups that matched nothing are not named. */
  takeMatches(): { readonly group: WatchGroup<Member>; readonly match: MatchNode }[] {
    const taken = this.#matched.map((group) => {
      const match = group.match as MatchNode;
      group.match = undefined;
      return { group, match };
    });
    this.#matched = [];
    if (taken.length > 0) this.#root = new MatchNode();
    return taken;
  }

  #matchAll(groups: readonly WatchGroup<Member>[], event: Event): void {
    for (const group of groups) {
      if (event.type === "put" ? group.filters.noPut : group.filters.noDelete) continue;
      if (event.kv.modRevision < group.fromRevision) continue;
      if (group.match === undefined) this.#matched.push(group);
      group.match = (group.match ?? this.#root).child(event);
    }
  }
}

/** Undefined: open. Not asked for single keys. */
function intervalEnd({ rangeEnd }: WatchRange): Bytes | undefined {
  return isOpenEnd(rangeEnd) ? undefined : rangeEnd;
}

function isSameGroup<Member>(
  group: WatchGroup<Member>,
  filters: WatchFilters,
  fromRevision: number,
): boolean {
  return (
    group.fromRevision === fromRevision &&
    group.filters.noPut === filters.noPut &&
    group.filters.noDelete === filters.noDelete
  );
}
