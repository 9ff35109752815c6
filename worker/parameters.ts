/** The query's parameters, by name: what they mean, for the API's description. */

export interface Parameter {
  readonly description: string;
  readonly schema: object;
}

const text = { type: "string" };
const flag = { type: "string", enum: ["true", "false", ""] };
const count = { type: "integer", minimum: 0 };

/** Every route takes these two. */
export const COMMON_PARAMETERS = {
  encoding: {
    description: "How keys and values are written in parameters and JSON.",
    schema: { type: "string", enum: ["utf8", "base64", "hex"], default: "utf8" },
  },
  timeout: {
    description: "Milliseconds within which the answer comes.",
    schema: { type: "integer", minimum: 1 },
  },
} as const satisfies Record<string, Parameter>;

export const PARAMETERS = {
  key: { description: "One key.", schema: text },
  prefix: { description: "All keys that start so.", schema: text },
  from: { description: "All keys from this one on.", schema: text },
  to: { description: "With from: up to this key, which is left out.", schema: text },
  all: { description: "All keys.", schema: flag },
  limit: { description: "Keys in one answer at most.", schema: count },
  cursor: { description: "Where an earlier listing goes on, as it said.", schema: text },
  format: {
    description: "A listing's form.",
    schema: { type: "string", enum: ["json", "ndjson"] },
  },
  revision: { description: "The state at, or changes from, this revision.", schema: count },
  serializable: { description: "The same as consistency=serializable.", schema: flag },
  consistency: {
    description: "How fresh the answer must be.",
    schema: { type: "string", enum: ["linearizable", "session", "bounded", "serializable"] },
  },
  session: {
    description: "With consistency=session: an answer's X-Quorate-Session.",
    schema: text,
  },
  maxAge: {
    description: "With consistency=bounded: milliseconds behind the cluster.",
    schema: count,
  },
  keysOnly: { description: "Leave out values.", schema: flag },
  countOnly: { description: "The number of keys alone.", schema: flag },
  order: { description: "By key.", schema: { type: "string", enum: ["ascend", "descend"] } },
  lease: { description: "The lease that the key lives with, in decimal.", schema: text },
  keys: { description: "With the keys of the lease.", schema: flag },
  previous: { description: "With what each change replaced.", schema: flag },
  only: {
    description: "These changes alone.",
    schema: { type: "string", enum: ["put", "delete"] },
  },
  lastEventId: {
    description: "Go on after this event; the header Last-Event-ID counts first.",
    schema: text,
  },
} as const satisfies Record<string, Parameter>;

export type ParameterName = keyof typeof PARAMETERS;
