/** A configuration that can't be run with; the text names the flag, and what would be right. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}
