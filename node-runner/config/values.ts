/**
 * The values of flags out of their texts, wherever those come from. Each reader throws a
 * `ConfigError` that names the flag and what would be right.
 */
import { ConfigError } from "./config-error.ts";
import { parseDuration } from "./duration.ts";
import type { Flag } from "./flag.ts";
import { FLAGS, FLAGS_BY_NAME } from "./flags.ts";
import { parseListenUrl, type ListenAddress } from "./url.ts";

export class Values {
  readonly #texts: ReadonlyMap<string, string>;

  constructor(texts: ReadonlyMap<string, string>) {
    this.#texts = texts;
  }

  has(name: string): boolean {
    return this.#texts.has(name);
  }

  text(name: string): string {
    const known = FLAGS_BY_NAME.get(name);
    if (known === undefined) throw new TypeError(`no flag ${name}`);
    return this.#texts.get(name) ?? known.default;
  }

  /** Each flag's checked value: tools look for numbers and booleans as such in the log. */
  all(): Record<string, string | number | boolean> {
    const shown = ({ name, kind }: Flag): string | number | boolean => {
      if (kind === "boolean") return this.boolean(name);
      return kind === "integer" || kind === "milliseconds"
        ? Number(this.text(name))
        : this.text(name);
    };
    return Object.fromEntries(FLAGS.map((each) => [each.name, shown(each)]));
  }

  choice<Choice extends string>(name: string, choices: readonly Choice[]): Choice {
    const text = this.text(name);
    const found = choices.find((each) => each === text);
    if (found === undefined) {
      throw new ConfigError(`--${name} is "${text}": it must be one of ${choices.join(", ")}`);
    }
    return found;
  }

  boolean(name: string): boolean {
    const text = this.text(name).toLowerCase();
    if (["true", "1", "t"].includes(text)) return true;
    if (["false", "0", "f"].includes(text)) return false;
    throw new ConfigError(`--${name} is "${text}": it must be true or false`);
  }

  integer(name: string, bounds: { min: number; max: number }): number {
    const text = this.text(name);
    const value = /^-?\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= bounds.min && value <= bounds.max)) {
      throw new ConfigError(
        `--${name} is "${text}": it must be a whole number from ${bounds.min} to ${bounds.max}`,
      );
    }
    return value;
  }

  duration(name: string): number {
    const text = this.text(name);
    const milliseconds = parseDuration(text);
    if (milliseconds === undefined || milliseconds < 0) {
      throw new ConfigError(`--${name} is "${text}": a duration such as 100ms or 1m30s is needed`);
    }
    return milliseconds;
  }

  urls(name: string): string[] {
    return this.text(name)
      .split(",")
      .map((each) => each.trim())
      .filter((each) => each !== "");
  }

  addresses(name: string): ListenAddress[] {
    return this.urls(name).map((text) => {
      const address = parseListenUrl(text);
      if ("problem" in address) throw new ConfigError(`--${name}: "${text}" ${address.problem}`);
      return address;
    });
  }
}
