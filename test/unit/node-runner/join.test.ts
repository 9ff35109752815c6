/** What a joining member makes of the answer to GET /members. */
import { expect, test } from "vitest";
import { matchCluster } from "../../../node-runner/join.ts";

const told = {
  clusterId: 7n,
  members: [
    { id: 2n ** 63n + 1n, name: "a", peerUrls: ["http://a:2380", "http://127.0.0.1:2380"] },
    { id: 5n, name: "", peerUrls: ["http://b:2380"] },
  ],
};

function join(name: string, entries: Record<string, string[]>): ReturnType<typeof matchCluster> {
  return matchCluster(told, { name, initialCluster: new Map(Object.entries(entries)) });
}

test("finds this member by its URLs, in whatever order and spelling", () => {
  const initialCluster = { x: ["http://127.0.0.1:2380/", "http://A:2380"], b: ["http://b:2380"] };
  expect(join("b", initialCluster)).toEqual({ ...told, memberId: 5n });
  expect(join("x", initialCluster).memberId).toBe(2n ** 63n + 1n);
});

test("says which of the two doesn't know the other", () => {
  const a = ["http://a:2380", "http://127.0.0.1:2380"];
  expect(() => join("b", { b: ["http://b:2380"] })).toThrow("member count is unequal");
  expect(() => join("b", { a, b: ["http://b:9"] })).toThrow("member 5: http://b:2380");
});
