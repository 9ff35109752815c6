/**
 * The edge of `npm start`, in a process of its own: loading the tools that it is built with takes
 * seconds of one stretch, in which the starter must hear Ctrl-C. The argument is `EdgeOptions` as
 * JSON. Ends at SIGTERM and with its parent.
 */
import * as esbuild from "esbuild";
import { Logger } from "../logger.ts";
import { onParentGone } from "../parent-pipe.ts";
import { startEdge, type EdgeOptions } from "./edge.ts";
import { READY_TEXT } from "./started-process.ts";

const logger = new Logger("info", (line) => void process.stderr.write(line));

try {
  const edge = await startEdge(JSON.parse(process.argv[2] ?? "{}") as EdgeOptions);
  // Only now: until there is something to stop, a signal may end the process by itself.
  const stop = (): void => void edge.stop().finally(() => process.exit(0));
  process.once("SIGTERM", stop);
  onParentGone(stop);
  await esbuild.stop();
  logger.report("info", READY_TEXT);
} catch (error) {
  logger.report("error", "failed to start", { error });
  process.exit(1);
}
