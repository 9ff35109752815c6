/**
 * The folders of the environments: `<directory>/<number>` holds one generation, and the file
 * `<directory>/CURRENT` names the one in use (decimal digits and a newline). A received snapshot
 * fills a new generation; writing CURRENT anew (a new file, synced, renamed over the old one, the
 * folder synced) switches to it in one durable step. What CURRENT doesn't name is left over from a
 * crash or a replaced generation, and goes at start.
 */
import { rmSync } from "node:fs";
import { BackendError } from "../../shared/backend/backend.ts";
import { textOf, utf8 } from "../../shared/base/bytes.ts";
import type { Files } from "../files/files.ts";

const CURRENT = "CURRENT";

export class Generations {
  readonly #files: Files;
  readonly #directory: string;
  #current: number;
  #newest: number;

  /** Finds the generation in use and removes the others. */
  static open(files: Files, directory: string): Generations {
    files.makeDirectory(directory);
    const generations = new Generations(files, directory);
    generations.#removeOthers();
    return generations;
  }

  private constructor(files: Files, directory: string) {
    this.#files = files;
    this.#directory = directory;
    this.#current = this.#readCurrent();
    this.#newest = this.#current;
  }

  get currentPath(): string {
    return this.#path(this.#current);
  }

  /** The folder of a new generation, not made yet. */
  begin(): { readonly number: number; readonly path: string } {
    this.#newest += 1;
    const path = this.#path(this.#newest);
    rmSync(path, { recursive: true, force: true });
    return { number: this.#newest, path };
  }

  /** Durable when it returns. */
  switchTo(number: number): void {
    const temporary = `${this.#directory}/${CURRENT}.new`;
    const file = this.#files.open(temporary, { create: true });
    try {
      file.truncate(0);
      file.write(0, utf8(`${number}\n`));
      file.sync();
    } finally {
      file.close();
    }
    this.#files.rename(temporary, `${this.#directory}/${CURRENT}`);
    this.#files.syncDirectory(this.#directory);
    this.#current = number;
  }

  remove(number: number): void {
    rmSync(this.#path(number), { recursive: true, force: true });
  }

  get current(): number {
    return this.#current;
  }

  /** 0: nothing is there yet. */
  #readCurrent(): number {
    const path = `${this.#directory}/${CURRENT}`;
    const others = this.#numbers();
    if (!this.#files.exists(path)) {
      if (others.length === 0) return 0;
      // The very first start was cut short before it could name its database.
      if (others.length === 1 && others[0] === 1) return 1;
      throw new BackendError(
        `${path} is missing, yet there are databases beside it: ${others.join(", ")}`,
      );
    }
    const file = this.#files.open(path, { create: false });
    try {
      const text = textOf(file.read(0, 32));
      if (!/^[1-9]\d{0,14}\n$/.test(text)) throw new BackendError(`${path} is damaged`);
      const current = Number.parseInt(text, 10);
      if (others.includes(current)) return current;
      throw new BackendError(`the database ${this.#path(current)} that ${path} names is missing`);
    } finally {
      file.close();
    }
  }

  #numbers(): number[] {
    const names = this.#files.list(this.#directory);
    return names.filter((name) => /^[1-9]\d*$/.test(name)).map(Number);
  }

  #removeOthers(): void {
    for (const number of this.#numbers()) if (number !== this.#current) this.remove(number);
  }

  #path(number: number): string {
    return `${this.#directory}/${number}`;
  }
}
