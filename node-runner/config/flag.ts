/** What is known of one flag. */
export type FlagKind =
  | "text"
  | "urls"
  | "integer"
  | "milliseconds"
  | "duration"
  | "boolean"
  | "choice";

export interface Flag {
  readonly name: string;
  readonly kind: FlagKind;
  readonly default: string;
  readonly choices?: readonly string[];
  readonly help: string;
}

export const flag = (
  name: string,
  kind: FlagKind,
  fallback: string,
  help: string,
  choices?: readonly string[],
): Flag => ({ name, kind, default: fallback, help, ...(choices === undefined ? {} : { choices }) });
