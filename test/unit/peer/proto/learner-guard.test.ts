/** Which of etcd's methods a learner serves: all are tried, so that a new one can't slip through. */
import { expect, test } from "vitest";
import { create } from "@bufbuild/protobuf";
import { errorText, RpcError } from "../../../../shared/api/errors.ts";
import { RangeRequestSchema } from "../../../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { utf8 } from "../../../../shared/base/bytes.ts";
import { protoServices } from "../../../../shared/peer/proto/methods.ts";
import { performLinkCall } from "../../../../shared/peer/link-calls.ts";
import type { Services } from "../../../../shared/peer/services.ts";
import { PATIENT_CALL } from "../../../support/in-process-cluster.ts";
import { MemoryServices } from "../../../support/memory-services.ts";

function learner(): Services {
  const services = new MemoryServices();
  return Object.assign(services, { cluster: { ...services.cluster, isLearner: () => true } });
}

const REFUSED = errorText("notSupportedForLearner");

test("all methods but Status and Snapshot are refused", async () => {
  const served: string[] = [];
  for (const [service, table] of Object.entries(protoServices(learner()))) {
    for (const [name, method] of Object.entries(table)) {
      const request = method.decode(new Uint8Array());
      let refusal: unknown;
      if (method.kind === "unary") {
        await method.handle(request, PATIENT_CALL).catch((error: unknown) => (refusal = error));
      } else {
        const end = (error: unknown): void => void (refusal = error);
        const sink = { send: () => true, end, pause: () => {}, resume: () => {} };
        method.open(sink, PATIENT_CALL).receive(request);
        await Promise.resolve();
      }
      if (!(refusal instanceof RpcError) || refusal.message !== REFUSED) {
        served.push(`${service}/${name}`);
      }
    }
  }
  const expected = ["etcdserverpb.Maintenance/Status", "etcdserverpb.Maintenance/Snapshot"];
  expect(expected).toEqual(expect.arrayContaining(served));
  expect(served).toContain(expected[0]);
});

test("a range is served if any state will do", async () => {
  const { Range } = protoServices(learner())["etcdserverpb.KV"] ?? {};
  if (Range?.kind !== "unary") throw new Error("Range is unary");
  const request = create(RangeRequestSchema, { key: utf8("key"), serializable: true });
  await expect(Range.handle(request, PATIENT_CALL)).resolves.toMatchObject({ count: 0 });
});

test("the link refuses and serves the same", async () => {
  const services = learner();
  const member = performLinkCall(services, { method: "leases" }, PATIENT_CALL);
  await expect(member).rejects.toThrow(REFUSED);
  const status = performLinkCall(services, { method: "status" }, PATIENT_CALL);
  await expect(status).resolves.toMatchObject({ method: "status" });
});
