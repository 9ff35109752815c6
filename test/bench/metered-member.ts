/**
 * The production member, with an account of its event loop: the most CPU time that its thread spent
 * between two turns of a timer of one millisecond. That is at least the longest stretch of work that
 * held up everything else, collection of garbage included, and doesn't grow when other processes
 * have the machine. SIGUSR2 makes it log the figure and start anew.
 */
import { main } from "../../node-runner/main.ts";

const LOOK_MILLISECONDS = 1;

let last = process.threadCpuUsage();
let longest = 0;
let reports = 0;

setInterval(() => {
  const now = process.threadCpuUsage();
  longest = Math.max(longest, now.user - last.user + (now.system - last.system));
  last = now;
}, LOOK_MILLISECONDS).unref();

process.on("SIGUSR2", () => {
  reports += 1;
  process.stderr.write(`stretch ${reports}: ${(longest / 1000).toFixed(1)} ms\n`);
  longest = 0;
});

await main(process.argv.slice(2));
