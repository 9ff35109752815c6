/**
 * A program under test as a child process: started until its log says that it is ready, stopped by its own pid, and
 * killed at the latest when the test process ends. Keeps the end of its log for failure messages.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";

const LOG_CHARACTERS_KEPT = 1024 * 1024;
/** Far above what a program takes that was told to stop, far below a test's time limit. */
const STOP_MILLISECONDS = 15_000;
/** Above what a program takes to start on a slow machine. A hook or test has more time. */
const READY_MILLISECONDS = 90_000;
/** Above what a running program takes to do what it is about to do. */
const LOGGED_MILLISECONDS = 30_000;
/** How long the log of a program that has ended may still be read: a child of its own may hold it open. */
const DRAIN_MILLISECONDS = 5000;

export interface ChildOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** The start is done once a line of stdout or stderr holds this text. Absent: at once. */
  readonly readyText?: string;
  readonly readyMilliseconds?: number;
}

const alive = new Set<ChildProcess>();

process.on("exit", () => {
  for (const child of alive) child.kill("SIGKILL");
});

export class Child {
  readonly pid: number;
  readonly #process: ChildProcess;
  readonly #exited: Promise<void>;
  #log = "";
  #waiters: { text: string; done: () => void }[] = [];

  private constructor(process: ChildProcess, pid: number) {
    this.#process = process;
    this.pid = pid;
    alive.add(process);
    this.#exited = new Promise((resolve) => {
      process.once("exit", () => {
        alive.delete(process);
        setTimeout(resolve, DRAIN_MILLISECONDS).unref();
      });
      // Then its log is whole: what it wrote last is read after its exit.
      process.once("close", () => resolve());
    });
    for (const stream of [process.stdout, process.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => this.#append(text));
    }
  }

  /** Starts the program and waits until it is ready; throws with the end of its log when it isn't in time. */
  static async start(options: ChildOptions): Promise<Child> {
    const process_ = spawn(options.command, options.args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const failed = once(process_, "error").then(([error]) => {
      throw new Error(`can't start ${options.command}`, { cause: error });
    });
    if (process_.pid === undefined) return failed;
    failed.catch(() => undefined);
    const child = new Child(process_, process_.pid);
    if (options.readyText !== undefined) {
      await child.logged(options.readyText, options.readyMilliseconds ?? READY_MILLISECONDS);
    }
    return child;
  }

  get running(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** The exit code, once it ended by itself or by a handled signal. */
  get exitCode(): number | null {
    return this.#process.exitCode;
  }

  /** The signal that ended it, if one did. */
  get signal(): NodeJS.Signals | null {
    return this.#process.signalCode;
  }

  /** The end of what it wrote to stdout and stderr. */
  get log(): string {
    return this.#log;
  }

  /** Resolves once the log holds the text; rejects when the program ends first or the time is up. */
  async logged(text: string, milliseconds = LOGGED_MILLISECONDS): Promise<void> {
    if (this.#log.includes(text)) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const found = new Promise<string>((resolve) => {
      this.#waiters.push({ text, done: () => resolve("found") });
    });
    const late = new Promise<string>((resolve) => {
      timer = setTimeout(() => resolve(`not within ${milliseconds} ms`), milliseconds);
    });
    const outcome = await Promise.race([found, late, this.#exited.then(() => "ended before")]);
    clearTimeout(timer);
    if (outcome === "found") return;
    this.kill("SIGKILL");
    throw new Error(`${this.#process.spawnfile}: "${text}" ${outcome}; its log:\n${this.#log}`);
  }

  kill(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** Resolves when the program has ended and its log is whole. */
  async ended(): Promise<void> {
    await this.#exited;
  }

  /** Asks it to stop, and kills it when it hasn't within a few seconds. */
  async stop(): Promise<void> {
    if (!this.running) return;
    this.kill("SIGTERM");
    const timer = setTimeout(() => this.kill("SIGKILL"), STOP_MILLISECONDS);
    await this.#exited;
    clearTimeout(timer);
  }

  #append(text: string): void {
    this.#log = (this.#log + text).slice(-LOG_CHARACTERS_KEPT);
    this.#waiters = this.#waiters.filter((waiter) => {
      if (!this.#log.includes(waiter.text)) return true;
      waiter.done();
      return false;
    });
  }
}
