/**
 * Linearizability of reads, writes and transactions (Herlihy and Wing 1990), made cheap by
 * revisions: each acknowledged write names its place in the one order, each read the state that it
 * saw. What is left to search are the revisions that no acknowledged write explains: writes whose
 * outcome the client never learned, and expired leases.
 *
 * A history is linearizable if the revisions 2, 3, ... can each be given to one write, such that
 *
 * - an acknowledged write stands at its revision, once, and did there what it was told; a refused one stands nowhere;
 * - every answer at revision r is what the model, having taken the writes up to r, would answer;
 * - what was answered before another operation began has a lower revision than that operation if it writes, and no
 *   higher one if it doesn't. Reads that asked for it (`serializable`) may lie in the past.
 *
 * The search is bounded; past the bound the history counts as failed, so that no run passes
 * unchecked.
 */
import type { Answer, ObservedEvent, ObservedKv, Operation, StepAnswer } from "./history.ts";
import { mayWrite } from "./history.ts";
import { Model, sameEvents, sameKvs, sameStepAnswers } from "./model.ts";

export interface CheckOptions {
  /** What watchers saw, by revision: narrows the search and is itself checked. */
  readonly events?: ReadonlyMap<number, readonly ObservedEvent[]>;
  readonly stepsMax?: number;
}

export type Verdict =
  | { readonly ok: true; readonly steps: number }
  | { readonly ok: false; readonly reason: string };

/** An operation with its answer. */
interface Answered {
  readonly operation: Operation;
  readonly answer: Answer;
}

/** A write that may stand at a revision without an acknowledged owner. */
interface Candidate {
  readonly operation: Operation;
  /** It was invoked after something that was answered at this revision: it stands behind it. */
  readonly floor: number;
  /** The end of a lease by expiry: may happen whenever keys hold it. */
  readonly expiry: boolean;
}

const STEPS_MAX = 200_000;
const REASONS_MAX = 20;

export function checkLinearizable(
  operations: readonly Operation[],
  options: CheckOptions = {},
): Verdict {
  const floors = floorsOf(operations);
  const disorder = checkRealTime(operations, floors);
  if (disorder !== undefined) return { ok: false, reason: disorder };
  const search = new Search(operations, floors, options);
  return search.run();
}

/** The highest revision that was answered to anyone before the operation began. */
function floorsOf(operations: readonly Operation[]): ReadonlyMap<Operation, number> {
  const starts = [...operations].sort((a, b) => a.invoked - b.invoked);
  const ends = answered(operations)
    .filter(({ operation }) => !isStale(operation))
    .sort((a, b) => (a.operation.returned ?? 0) - (b.operation.returned ?? 0));
  const floors = new Map<Operation, number>();
  let floor = 1;
  let next = 0;
  for (const operation of starts) {
    for (let end = ends[next]; end !== undefined; end = ends[next]) {
      // At the same instant they overlap: only what was over before counts.
      if ((end.operation.returned ?? Infinity) >= operation.invoked) break;
      floor = Math.max(floor, end.answer.revision);
      next += 1;
    }
    floors.set(operation, floor);
  }
  return floors;
}

function isStale({ request }: Operation): boolean {
  return request.kind === "range" && request.serializable;
}

function answered(operations: readonly Operation[]): Answered[] {
  const found: Answered[] = [];
  for (const operation of operations) {
    if (typeof operation.outcome === "object") {
      found.push({ operation, answer: operation.outcome });
    }
  }
  return found;
}

function checkRealTime(
  operations: readonly Operation[],
  floors: ReadonlyMap<Operation, number>,
): string | undefined {
  for (const { operation, answer } of answered(operations)) {
    const floor = floors.get(operation) ?? 1;
    if (isStale(operation) || answer.revision >= floor) continue;
    const what = describe(operation);
    return `${what} answers at revision ${answer.revision}; ${floor} was answered before it began`;
  }
  return undefined;
}

/** Depth-first over revisions; each level has the candidates that are left to try. */
class Search {
  readonly #floors: ReadonlyMap<Operation, number>;
  readonly #events: ReadonlyMap<number, readonly ObservedEvent[]>;
  readonly #stepsMax: number;
  readonly #answers = new Map<number, Answered[]>();
  readonly #owners = new Map<number, Answered[]>();
  readonly #candidates: Candidate[] = [];
  /** What reads and watchers saw of single keys, by the revision that wrote them. */
  readonly #evidence = new Map<number, ObservedKv[]>();
  readonly #used = new Set<Operation>();
  #last = 1;
  #steps = 0;
  /** Why the search got no further than this revision. */
  #deepest = { revision: 1, reasons: new Set<string>() };

  constructor(
    operations: readonly Operation[],
    floors: ReadonlyMap<Operation, number>,
    options: CheckOptions,
  ) {
    this.#floors = floors;
    this.#events = options.events ?? new Map();
    this.#stepsMax = options.stepsMax ?? STEPS_MAX;
    for (const pair of answered(operations)) this.#takeAnswer(pair);
    for (const operation of operations) this.#takeCandidate(operation);
    for (const [revision, events] of this.#events) {
      this.#last = Math.max(this.#last, revision);
      for (const { type, kv } of events) if (type === "put") this.#see(kv);
    }
  }

  run(): Verdict {
    interface Level {
      readonly model: Model;
      readonly choices: Iterator<{ next: Model; taken: Operation | undefined }>;
      readonly taken: Operation | undefined;
    }
    const start = new Model();
    const problem = this.#checkAnswers(start);
    if (problem !== undefined) return { ok: false, reason: problem };
    const levels: Level[] = [{ model: start, choices: this.#choices(start), taken: undefined }];
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      if (level.model.revision >= this.#last) return { ok: true, steps: this.#steps };
      if (this.#steps > this.#stepsMax) {
        return { ok: false, reason: `undecided after ${this.#steps} steps` };
      }
      const choice = level.choices.next();
      if (choice.done === true) {
        if (level.taken !== undefined) this.#used.delete(level.taken);
        levels.pop();
        continue;
      }
      const { next, taken } = choice.value;
      if (taken !== undefined) this.#used.add(taken);
      levels.push({ model: next, choices: this.#choices(next), taken });
    }
    const { revision, reasons } = this.#deepest;
    return { ok: false, reason: `revision ${revision}: ${[...reasons].join("; ")}` };
  }

  #takeAnswer(pair: Answered): void {
    const { operation, answer } = pair;
    this.#last = Math.max(this.#last, answer.revision);
    push(this.#answers, shownRevision(pair), pair);
    for (const kv of answer.kvs ?? []) this.#see(kv);
    if (ownsRevision(pair)) push(this.#owners, answer.revision, pair);
    if (operation.request.kind === "grant") this.#addExpiry(operation);
  }

  #takeCandidate(operation: Operation): void {
    if (operation.outcome !== "unknown") return;
    if (operation.request.kind === "grant") this.#addExpiry(operation);
    if (!mayWrite(operation.request)) return;
    const floor = this.#floors.get(operation) ?? 1;
    this.#candidates.push({ operation, floor, expiry: false });
  }

  #addExpiry(operation: Operation): void {
    const floor = this.#floors.get(operation) ?? 1;
    this.#candidates.push({ operation, floor, expiry: true });
  }

  #see(kv: ObservedKv): void {
    this.#last = Math.max(this.#last, kv.modRevision);
    push(this.#evidence, kv.modRevision, kv);
  }

  /** The models that may follow: exactly one write further. */
  *#choices(model: Model): Generator<{ next: Model; taken: Operation | undefined }> {
    const revision = model.revision + 1;
    const owners = this.#owners.get(revision) ?? [];
    if (owners.length > 1) {
      const both = owners.map(({ operation }) => describe(operation)).join(" and ");
      return this.#note(revision, `claimed by ${both}`);
    }
    const [owner] = owners;
    if (owner !== undefined) {
      const { operation, answer } = owner;
      const written = model.write(operation.request);
      if (written === undefined) {
        return this.#note(revision, `${describe(operation)} would have written nothing here`);
      }
      if ((this.#floors.get(operation) ?? 1) >= revision) {
        return this.#note(revision, `${describe(operation)} began after it was answered`);
      }
      const wrong = ownAnswerProblem(model, operation, answer);
      if (wrong !== undefined) return this.#note(revision, `${describe(operation)}: ${wrong}`);
      if (this.#fits(written, operation)) yield { next: written.next, taken: undefined };
      return;
    }
    for (const candidate of this.#candidates) yield* this.#try(model, candidate);
    this.#note(revision, "no write explains it");
  }

  *#try(
    model: Model,
    { operation, floor, expiry }: Candidate,
  ): Generator<{ next: Model; taken: Operation | undefined }> {
    if (floor > model.revision || (!expiry && this.#used.has(operation))) return;
    const { request } = operation;
    const written =
      expiry && request.kind === "grant" ? model.revoke(request.lease) : model.write(request);
    if (written === undefined || !this.#fits(written, operation)) return;
    yield { next: written.next, taken: expiry ? undefined : operation };
  }

  #fits(written: { next: Model; events: readonly ObservedEvent[] }, by: Operation): boolean {
    this.#steps += 1;
    const { next, events } = written;
    const { revision } = next;
    const seen = this.#events.get(revision);
    if (seen !== undefined && !sameEvents(events, seen)) return false;
    for (const kv of this.#evidence.get(revision) ?? []) {
      const event = events.find((candidate) => candidate.kv.key === kv.key);
      if (event?.type === "put" && sameKvs([event.kv], [kv])) continue;
      this.#note(
        revision,
        `a read saw ${kv.key}=${kv.value.slice(0, 9)} of it, not ${describe(by)}`,
      );
      return false;
    }
    const problem = this.#checkAnswers(next);
    if (problem === undefined) return true;
    this.#note(revision, problem);
    return false;
  }

  /** What was answered at the model's revision. */
  #checkAnswers(model: Model): string | undefined {
    for (const { operation, answer } of this.#answers.get(model.revision) ?? []) {
      const wrong = answerProblem(model, operation, answer);
      if (wrong !== undefined) return `${describe(operation)}: ${wrong}`;
    }
    return undefined;
  }

  #note(revision: number, reason: string): void {
    if (revision < this.#deepest.revision) return;
    if (revision > this.#deepest.revision) this.#deepest = { revision, reasons: new Set() };
    if (this.#deepest.reasons.size < REASONS_MAX) this.#deepest.reasons.add(reason);
  }
}

/** The revision whose state the answer shows: a range may have asked for an older one. */
function shownRevision({ operation: { request }, answer }: Answered): number {
  return request.kind === "range" && request.atRevision > 0 ? request.atRevision : answer.revision;
}

/** Whether the answer says that the operation wrote, and so that its revision is its own. */
function ownsRevision({ operation: { request }, answer }: Answered): boolean {
  switch (request.kind) {
    case "put":
    case "putAll":
      return true;
    case "swap":
      return answer.succeeded === true;
    case "delete":
      return (answer.deleted ?? 0) > 0;
    case "txn":
      return (answer.results ?? []).some(hasWritten);
    default:
      return false;
  }
}

function hasWritten(step: StepAnswer): boolean {
  if (step.kind === "txn") return step.results.some(hasWritten);
  return step.kind === "put" || (step.kind === "delete" && step.deleted > 0);
}

/** What is wrong with the answer of a write, where `model` is the state before it. */
function ownAnswerProblem(model: Model, operation: Operation, answer: Answer): string | undefined {
  const { request } = operation;
  if (request.kind === "delete") {
    const count = model.range(request).length;
    return answer.deleted === count ? undefined : `deleted ${answer.deleted} of ${count} keys`;
  }
  return request.kind === "txn" ? txnProblem(model, operation, answer) : undefined;
}

function txnProblem(model: Model, { request }: Operation, answer: Answer): string | undefined {
  if (request.kind !== "txn") return undefined;
  const { succeeded, results } = model.txn(request).answer;
  if (answer.succeeded !== succeeded) return `its conditions hold: ${succeeded}`;
  return sameStepAnswers(answer.results ?? [], results) ? undefined : "a step's answer is wrong";
}

/** What is wrong with an answer, where `model` is the state after everything up to its revision. */
function answerProblem(model: Model, operation: Operation, answer: Answer): string | undefined {
  const { request } = operation;
  if (request.kind === "range") {
    const { kvs, count, more } = model.find(request, request);
    if (!sameKvs(answer.kvs ?? [], kvs)) {
      return `answered ${show(answer.kvs ?? [])} instead of ${show(kvs)}`;
    }
    if ((answer.count ?? count) !== count || (answer.more ?? more) !== more) {
      return `counted ${answer.count} (more: ${answer.more}) instead of ${count} (${more})`;
    }
  }
  // One that wrote was judged by the state before it.
  if (request.kind === "txn" && !(answer.results ?? []).some(hasWritten)) {
    return txnProblem(model, operation, answer);
  }
  if (request.kind === "swap" && answer.succeeded !== true) {
    const kv = model.get(request.key);
    if ((kv?.modRevision ?? 0) === request.expected) return "failed although it should succeed";
    if (!sameKvs(answer.kvs ?? [], kv === undefined ? [] : [kv])) {
      return `read ${show(answer.kvs ?? [])} instead of ${kv === undefined ? "[]" : show([kv])}`;
    }
  }
  if (request.kind === "delete" && answer.deleted === 0 && model.range(request).length > 0) {
    return "deleted nothing although there is something";
  }
  if (request.kind === "revoke" && model.attached(request.lease).length > 0) {
    return "the lease ended, its keys are still there";
  }
  return undefined;
}

function show(kvs: readonly ObservedKv[]): string {
  return `[${kvs.map((kv) => `${kv.key}=${kv.value.slice(0, 9)}@${kv.modRevision}`).join(" ")}]`;
}

export function describe({ id, request }: Operation): string {
  switch (request.kind) {
    case "range":
      return `#${id} range ${request.key}..${request.end ?? ""}@${request.atRevision}`;
    case "put":
      return `#${id} put ${request.key}=${request.value.slice(0, 9)}`;
    case "putAll":
      return `#${id} put ${request.keys.join("+")}=${request.value.slice(0, 9)}`;
    case "swap":
      return `#${id} swap ${request.key}@${request.expected}=${request.value.slice(0, 9)}`;
    case "delete":
      return `#${id} delete ${request.key}..${request.end ?? ""}`;
    case "txn":
      return `#${id} txn of ${request.success.length} or ${request.failure.length} steps`;
    case "grant":
    case "revoke":
      return `#${id} ${request.kind} ${request.lease}`;
    case "compact":
      return `#${id} compact ${request.upTo}`;
  }
}

function push<Key, Item>(map: Map<Key, Item[]>, key: Key, item: Item): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [item]);
  else list.push(item);
}
