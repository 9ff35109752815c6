/**
 * A peer or the edge as a child process of `npm start`: its output kept in a file, known to be ready
 * by its log line, stopped by SIGTERM and, should it hang, by SIGKILL. What it has started itself
 * ends with it.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { createWriteStream, type WriteStream } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { PARENT_PIPE } from "../parent-pipe.ts";

/** What a member logs once it serves and a leader is known, and the edge once it serves. */
export const READY_TEXT = "ready to serve client requests";

/** What has not stopped by then is killed: Ctrl-C ends everything within 3 s. */
const STOP_MILLISECONDS = 2500;

export class StartedProcess {
  readonly name: string;
  /** Rejects with the reason when the process ends before it is ready. */
  readonly ready: Promise<void>;
  readonly #logFile: string;
  readonly #child: ChildProcess;
  readonly #log: WriteStream;
  readonly #exited: Promise<void>;
  #isReady = false;
  #lastError: string | undefined;

  /** `command`: what Node runs, a script and its arguments. */
  constructor(options: {
    name: string;
    command: readonly string[];
    logDir: string;
    workingDir: string;
  }) {
    this.name = options.name;
    this.#logFile = join(options.logDir, `${options.name}.log`);
    this.#log = createWriteStream(this.#logFile, { flags: "a" });
    // On a full disk the process says by itself that it can't go on; its log is cut short.
    this.#log.on("error", () => undefined);
    this.#child = spawn(process.execPath, options.command, {
      cwd: options.workingDir,
      // The pipe on its standard input tells it when the starter is gone for whatever reason.
      stdio: ["pipe", "pipe", "pipe"],
      // A group of its own: a terminal's Ctrl-C goes to the starter alone, which then stops the
      // others in order.
      detached: true,
      env: { ...process.env, [PARENT_PIPE]: "1" },
    });
    this.#child.once("exit", () => this.#killGroup());
    this.#exited = new Promise((resolve) => this.#child.once("close", () => resolve()));
    this.ready = this.#watchOutput();
    this.ready.catch(() => undefined);
  }

  /** Called when the process ends by itself after it was ready; `problem` says how and why. */
  onExit(callback: (problem: string) => void): void {
    this.#child.once("close", (code, signal) => {
      if (this.#isReady) callback(this.#end(`ended (${signal ?? `exit code ${code}`})`));
    });
  }

  async stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), STOP_MILLISECONDS);
    await this.#exited;
    clearTimeout(timer);
  }

  #end(how: string): string {
    const reason = this.#lastError === undefined ? "" : `: ${this.#lastError}`;
    return `${this.name} ${how}${reason}; its log: ${this.#logFile}`;
  }

  #watchOutput(): Promise<void> {
    const { stdout, stderr } = this.#child;
    if (stdout === null || stderr === null) throw new TypeError("the output is a pipe");
    return new Promise((resolve, reject) => {
      createInterface({ input: stdout }).on("line", (line) => this.#log.write(`${line}\n`));
      createInterface({ input: stderr }).on("line", (line) => {
        this.#log.write(`${line}\n`);
        if (line.includes(READY_TEXT)) {
          this.#isReady = true;
          resolve();
        }
        if (line.includes('"level":"error"') || !line.startsWith("{"))
          this.#lastError = messageOf(line);
      });
      this.#child.once("error", reject);
      this.#child.once("close", () => {
        this.#log.end();
        reject(new Error(this.#end("ended before it was ready")));
      });
    });
  }

  /** The edge's runtime is a process too, and outlives an edge that is killed. */
  #killGroup(): void {
    const { pid } = this.#child;
    if (pid === undefined || process.platform === "win32") return;
    try {
      process.kill(-pid, "SIGKILL");
    } catch {
      // Nobody is left in the group.
    }
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
