/** The flags by which a command finds one member and speaks TLS to it, by etcdctl's names. */
import { readFileSync } from "node:fs";
import type { SecureContextOptions } from "node:tls";

const text = { type: "string" } as const;

export const ENDPOINT_FLAGS = {
  endpoints: { type: "string", default: "127.0.0.1:2379" },
  cacert: text,
  cert: text,
  key: text,
  "insecure-skip-tls-verify": { type: "boolean" },
} as const;

export interface EndpointValues {
  readonly endpoints: string;
  readonly cacert?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly "insecure-skip-tls-verify"?: boolean | undefined;
}

export interface Endpoint {
  readonly endpoint: string;
  readonly tls: SecureContextOptions & { readonly rejectUnauthorized: boolean };
}

/** A flag is missing or wrong. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/**
 * `single`: what is said when several endpoints are named. Throws `UsageError`, and the system's error for a file that
 * can't be read.
 */
export function endpointOf(values: EndpointValues, single: string): Endpoint {
  const { endpoints } = values;
  if (endpoints.includes(",")) throw new UsageError(single);
  const files = [values.cacert, values.cert, values.key];
  const secure = files.some((file) => file !== undefined);
  const endpoint = endpoints.includes("://")
    ? endpoints
    : `${secure ? "https" : "http"}://${endpoints}`;
  if (!URL.canParse(endpoint)) throw new UsageError(`--endpoints: "${endpoints}" is no URL`);
  const [ca, cert, key] = files.map((file) =>
    file === undefined ? undefined : readFileSync(file),
  );
  return {
    endpoint,
    tls: {
      ...(ca && { ca }),
      ...(cert && { cert }),
      ...(key && { key }),
      rejectUnauthorized: values["insecure-skip-tls-verify"] !== true,
    },
  };
}
