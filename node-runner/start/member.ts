/**
 * One peer as a child process of `npm start`: started with etcd's flags, its log kept in a file,
 * known to be ready by its log line, stopped by SIGTERM and, should it hang, by SIGKILL.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { createWriteStream, type WriteStream } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { PARENT_PIPE } from "../parent-pipe.ts";

/** What a member logs once it serves and a leader is known. */
const READY_TEXT = "ready to serve client requests";

/** A member that has not stopped by then is killed: Ctrl-C ends everything within 3 s. */
const STOP_MILLISECONDS = 2500;

export class MemberProcess {
  readonly name: string;
  readonly ready: Promise<void>;
  readonly #child: ChildProcess;
  readonly #log: WriteStream;
  readonly #exited: Promise<void>;
  #lastError: string | undefined;

  constructor(options: { name: string; args: readonly string[]; logFile: string; root: string }) {
    this.name = options.name;
    this.#log = createWriteStream(options.logFile, { flags: "a" });
    this.#child = spawn(
      process.execPath,
      [join(options.root, "node-runner", "bin", "quorate.js"), ...options.args],
      // A group of its own: a terminal's Ctrl-C goes to the starter alone, which then stops the
      // members in order.
      // The pipe on its standard input tells it when the starter is gone for whatever reason.
      {
        cwd: options.root,
        stdio: ["pipe", "ignore", "pipe"],
        detached: true,
        env: { ...process.env, [PARENT_PIPE]: "1" },
      },
    );
    this.#exited = new Promise((resolve) => this.#child.once("close", () => resolve()));
    this.ready = this.#watchLog(options.logFile);
    this.ready.catch(() => undefined);
  }

  /** Called when the process ends by itself. */
  onExit(callback: (problem: string) => void): void {
    this.#child.once("close", (code, signal) => {
      callback(`${this.name} ended (${signal ?? `exit code ${code}`})${this.#reason()}`);
    });
  }

  #reason(): string {
    return this.#lastError === undefined ? "" : `: ${this.#lastError}`;
  }

  #watchLog(logFile: string): Promise<void> {
    const stderr = this.#child.stderr;
    if (stderr === null) throw new TypeError("standard error is a pipe");
    return new Promise((resolve, reject) => {
      createInterface({ input: stderr }).on("line", (line) => {
        this.#log.write(`${line}\n`);
        if (line.includes(READY_TEXT)) resolve();
        if (line.includes('"level":"error"') || !line.startsWith("{"))
          this.#lastError = messageOf(line);
      });
      this.#child.once("error", reject);
      this.#child.once("close", () => {
        this.#log.end();
        reject(
          new Error(`${this.name} ended before it was ready${this.#reason()}; its log: ${logFile}`),
        );
      });
    });
  }

  async stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), STOP_MILLISECONDS);
    await this.#exited;
    clearTimeout(timer);
  }
}

/** The message of a JSON log line, with its error; other lines as they are. */
function messageOf(line: string): string {
  try {
    const { msg, error } = JSON.parse(line) as { msg?: string; error?: string };
    return [msg, error].filter((part) => part !== undefined).join(": ");
  } catch {
    return line;
  }
}
