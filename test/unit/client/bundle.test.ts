/**
 * What the client costs a browser or a Worker: its size, and that importing it does nothing and
 * brings nothing that isn't used.
 */
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { describe, expect, test } from "vitest";

const CLIENT = join(import.meta.dirname, "..", "..", "..", "shared", "client");
const CORE_BYTES_MAX = 12 * 1024;

async function bundle(code: string): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents: code, resolveDir: CLIENT },
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    platform: "browser",
    target: "es2022",
    logLevel: "error",
  });
  return outputFiles[0]?.text ?? "";
}

const sizeOf = (text: string): number => gzipSync(text, { level: 9 }).length;

describe("the client's bundle", () => {
  test("the core (keys, transactions, watches, leases, both transports) has 12 KB at most", async () => {
    const code = `export { connect, key, put, get, remove } from "./index.ts";`;
    const core = sizeOf(await bundle(code));
    const all = sizeOf(await bundle(`export * from "./index.ts";`));
    console.log(`client bundle, gzip: core ${core} bytes, everything it exports ${all} bytes`);
    expect(core).toBeLessThanOrEqual(CORE_BYTES_MAX);
  });

  test("an import of which nothing is used leaves nothing, without eval and Node", async () => {
    const text = await bundle(`import { connect } from "./index.ts"; export const unused = 1;`);
    expect(sizeOf(text)).toBeLessThan(100);
    const whole = await bundle(`export * from "./index.ts"; export * from "./cbor.ts";`);
    expect(whole).not.toMatch(/\beval\(|new Function|require\(|from"node:/);
  });
});
