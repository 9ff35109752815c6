/** The HTTP status of each gRPC status: grpc-gateway's mapping, which the JSON gateway and the edge share. */
import type { StatusName } from "./errors.ts";

export const HTTP_STATUS: Readonly<Record<StatusName, number>> = {
  ok: 200,
  canceled: 499,
  unknown: 500,
  invalidArgument: 400,
  deadlineExceeded: 504,
  notFound: 404,
  alreadyExists: 409,
  permissionDenied: 403,
  resourceExhausted: 429,
  failedPrecondition: 400,
  aborted: 409,
  outOfRange: 400,
  unimplemented: 501,
  internal: 500,
  unavailable: 503,
  dataLoss: 500,
  unauthenticated: 401,
};
