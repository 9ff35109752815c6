/** Placeholder until the edge lands. */
export interface RunningEdge {
  stop(): Promise<void>;
}
export async function startEdge(_options: {
  port: number;
  peers: readonly string[];
}): Promise<RunningEdge> {
  throw new Error("the edge isn't built yet");
}
