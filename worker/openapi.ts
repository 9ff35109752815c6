/** The HTTP API's OpenAPI 3.1 document, made of the table of routes that the app serves. */
import { COMMON_PARAMETERS, PARAMETERS } from "./parameters.ts";
import type { Parameter } from "./parameters.ts";
import { ROUTES } from "./routes.ts";
import type { Answer, Route } from "./routes.ts";

/** What any route may answer: bad input, no permission, limits, and peers that fail. */
const COMMON_PROBLEMS = [400, 401, 403, 404, 413, 429, 500, 503, 504];

const PROBLEM_TYPE = "application/problem+json";
const PROBLEM = { $ref: "#/components/schemas/Problem" };

export interface OpenApi {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

interface Operation {
  readonly responses: Readonly<
    Record<string, { readonly content?: Readonly<Record<string, object>> }>
  >;
}

let made: OpenApi | undefined;

export function openApi(): OpenApi {
  made ??= make();
  return made;
}

function make(): OpenApi {
  const paths: Record<string, Record<string, Operation>> = {};
  for (const route of ROUTES) {
    paths[route.path] = { ...paths[route.path], [route.method]: operationOf(route) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Quorate's edge",
      version: "1",
      description: "A linearizable key-value store over HTTP. Errors are problem JSON (RFC 9457).",
    },
    security: [{ bearer: [] }],
    paths,
    components: {
      securitySchemes: { bearer: { type: "http", scheme: "bearer", bearerFormat: "JWT" } },
      schemas: {
        Problem: {
          type: "object",
          required: ["type", "title", "status", "retryable", "outcome"],
          properties: {
            type: { type: "string" },
            title: { type: "string" },
            status: { type: "integer" },
            code: { type: "integer", description: "gRPC's status." },
            retryable: { type: "boolean", description: "Repeating does no harm and may succeed." },
            outcome: { enum: ["none", "unknown"], description: "Whether it may have happened." },
          },
        },
      },
    },
  } as OpenApi;
}

function operationOf(route: Route): Operation {
  const inPath = [...route.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string" },
  }));
  const named = route.parameters
    // A key that stands in the path is not in the query, and ranges are not keys.
    .filter((name) => inPath.length === 0 || name !== "key")
    .map((name) => inQuery(name, PARAMETERS[name]));
  const common = Object.entries(COMMON_PARAMETERS).map(([name, each]) => inQuery(name, each));
  const headers = (route.headers ?? []).map((name) => ({
    name,
    in: "header",
    schema: { type: "string" },
  }));
  const { body } = route;
  const responses: Record<string, Operation["responses"][string]> = {};
  for (const status of [...COMMON_PROBLEMS, ...route.problems]) {
    const content = { [PROBLEM_TYPE]: { schema: PROBLEM } };
    responses[status] = { description: "A problem.", content } as Operation["responses"][string];
  }
  for (const [status, answer] of Object.entries(route.answers)) {
    const problem = responses[status]?.content ?? {};
    responses[status] = responseOf(answer, problem);
  }
  return {
    summary: route.summary,
    parameters: [...inPath, ...named, ...common, ...headers],
    ...(body === undefined
      ? {}
      : { requestBody: { description: body.description, content: { [body.type]: {} } } }),
    responses,
  } as Operation;
}

function inQuery(name: string, { description, schema }: Parameter): object {
  return { name, in: "query", description, schema };
}

/** A status may stand for a problem too: then it has both types. */
function responseOf(
  { description, types, schema }: Answer,
  problem: Readonly<Record<string, object>>,
): Operation["responses"][string] {
  const own = types.map((type) => [type, schema === undefined ? {} : { schema }] as const);
  const content = { ...problem, ...Object.fromEntries(own) };
  const described = { description, ...(Object.keys(content).length === 0 ? {} : { content }) };
  return described;
}
