/** A peer, alone and among three, on memory storage and a clock that stands still until it is moved. */
import { describe, expect, test } from "vitest";
import { EMPTY, textOf, utf8 } from "../../../shared/base/bytes.ts";
import type { RangeAnswer } from "../../../shared/peer/services.ts";
import { wholeRange } from "../../../shared/peer/state/compares.ts";
import { ManualClock } from "../../support/clocks.ts";
import type { InProcessMember, InProcessOptions } from "../../support/in-process-cluster.ts";
import { PATIENT_CALL, startInProcessCluster } from "../../support/in-process-cluster.ts";

async function startCluster(options: InProcessOptions) {
  const clock = new ManualClock();
  const cluster = startInProcessCluster({ ...options, clock });
  /** Moves time on until the promise is settled. */
  const settled = async <Value>(promise: Promise<Value>): Promise<Value> => {
    let done = false;
    const mark = (): void => {
      done = true;
    };
    promise.then(mark, mark);
    await clock.until(() => done);
    return promise;
  };
  await settled(cluster.ready());
  return { clock, cluster, settled };
}

function put(member: InProcessMember, key: string, value: string) {
  const op = {
    kind: "put",
    key: utf8(key),
    value: utf8(value),
    lease: 0n,
    previousKv: false,
    ignoreLease: false,
    ignoreValue: false,
  } as const;
  return member.peer.services.kv.put(op, PATIENT_CALL);
}

function get(member: InProcessMember, key: string, serializable = false): Promise<RangeAnswer> {
  const query = wholeRange(utf8(key), EMPTY);
  return member.peer.services.kv.range(query, { serializable }, PATIENT_CALL);
}

function valueOf(answer: RangeAnswer): string | undefined {
  const kv = answer.kvs[0];
  return kv === undefined ? undefined : textOf(kv.value);
}

describe.each([1, 3])("%i members", (members) => {
  test("each takes writes and reads what any of them has written", async () => {
    const { cluster, settled } = await startCluster({ members });
    let revision = 1;
    for (const writer of cluster.members) {
      revision += 1;
      const { header } = await settled(put(writer, "key", `by ${writer.id}`));
      expect(header).toMatchObject({ clusterId: 0xc1n, memberId: writer.id, revision });
      for (const reader of cluster.members) {
        const answer = await settled(get(reader, "key"));
        expect(valueOf(answer)).toBe(`by ${writer.id}`);
        expect(answer.header.revision).toBe(revision);
      }
    }
    expect(cluster.members.map((member) => member.fatal)).toEqual(
      cluster.members.map(() => undefined),
    );
  });
});
