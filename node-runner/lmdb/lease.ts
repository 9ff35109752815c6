/**
 * Keeps an environment open while the backend or a pin reads it: a shadow may replace it under a
 * pin.
 */
import { assert } from "../../shared/base/assert.ts";
import type { Environment } from "./environment.ts";

export class Lease {
  readonly environment: Environment;
  #holders = 1;

  constructor(environment: Environment) {
    this.environment = environment;
  }

  hold(): void {
    assert(this.#holders > 0, "the environment is open");
    this.#holders += 1;
  }

  /** The last holder closes; for the others it resolves at once. */
  async release(): Promise<void> {
    assert(this.#holders > 0, "the environment is held");
    this.#holders -= 1;
    if (this.#holders === 0) await this.environment.close();
  }
}
