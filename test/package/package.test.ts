/**
 * The package as it is published: built, packed, unpacked into a fresh project, and used there from
 * Node, a Worker, a browser's bundle and TypeScript. The project's dependencies are this checkout's:
 * tests speak to no registry.
 */
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect } from "../../shared/client/index.ts";
import { Child } from "../support/child.ts";
import { freePorts } from "../support/ports.ts";
import { makeTempDir, removeTempDir } from "../support/temp-dir.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const MODULES = join(ROOT, "node_modules");
const CORE_BYTES_MAX = 12 * 1024;
const exec = promisify(execFile);

interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, unknown>>;
}

describe("the published package", () => {
  let project: string;
  let tarball: string;

  /** A command in the fresh project; rejects with its output when it fails. */
  const run = async (command: string, ...args: string[]): Promise<string> => {
    const env = { ...process.env, WRANGLER_SEND_METRICS: "false", CI: "true" };
    const done = exec(command, args, { cwd: project, env });
    const { stdout } = await done.catch((error: Error & { stdout?: string; stderr?: string }) => {
      throw new Error(`${command} ${args.join(" ")}: ${error.stdout}\n${error.stderr}`);
    });
    return stdout;
  };
  const file = (name: string, text: string): string => {
    writeFileSync(join(project, name), text);
    return name;
  };

  beforeAll(async () => {
    project = makeTempDir("package");
    await exec(process.execPath, [join(ROOT, "node-runner", "bin", "build.js")], { cwd: ROOT });
    const options = ["pack", "--ignore-scripts", "--json", "--pack-destination", project];
    const { stdout } = await exec("npm", options, { cwd: ROOT });
    const [packed] = JSON.parse(stdout) as { filename: string }[];
    tarball = join(project, packed?.filename ?? "");
    await exec("tar", ["-xzf", tarball], { cwd: project });
    mkdirSync(join(project, "node_modules"));
    renameSync(join(project, "package"), join(project, "node_modules", "quorate"));
    const { dependencies } = manifest();
    for (const name of [...Object.keys(dependencies), "@types/node", "@cloudflare/workers-types"]) {
      const path = join(project, "node_modules", name);
      mkdirSync(dirname(path), { recursive: true });
      symlinkSync(join(MODULES, name), path);
    }
    file("package.json", '{ "type": "module" }');
  }, 300_000);
  afterAll(() => removeTempDir(project));

  const manifest = (): Manifest =>
    JSON.parse(
      readFileSync(join(project, "node_modules", "quorate", "package.json"), "utf8"),
    ) as Manifest;

  test("publint and attw have nothing to say", async () => {
    expect(
      await run(process.execPath, join(MODULES, "publint", "src", "cli.js"), tarball, "--strict"),
    ).toContain("All good");
    const attw = join(MODULES, "@arethetypeswrong", "cli", "dist", "index.js");
    // It ends with an error when a subpath doesn't resolve, to code or to types, for ESM or a bundler.
    const report = await run(
      process.execPath,
      attw,
      tarball,
      "--profile",
      "esm-only",
      "--no-emoji",
    );
    for (const subpath of ["client", "client/cbor", "testing", "edge", "node"]) {
      expect(report).toContain(`"quorate/${subpath}"`);
    }
  });

  test("Node: client, codec and testing cluster", async () => {
    const name = file(
      "app.js",
      `import { connect, Mutex } from "quorate/client";
       import { cbor } from "quorate/client/cbor";
       import { startTestCluster } from "quorate/testing";
       await using cluster = await startTestCluster();
       const store = cluster.connect().as(cbor());
       await store.put("k", { n: 1n });
       await using lock = await new Mutex(store, "m").lock();
       console.log((await store.get("k")).value.n, typeof connect, lock.token > 0);`,
    );
    expect(await run(process.execPath, name)).toBe("1n function true\n");
  });

  test("Node: the command runs a member, and so does quorate/node", async () => {
    const bin = join("node_modules", "quorate", "node-runner", "bin", "quorate.js");
    expect(await run(process.execPath, bin, "--version")).toMatch(/^etcd Version: 3\.7/);
    const flagsOf = async (name: string): Promise<{ url: string; flags: string[] }> => {
      const [clients, peers] = await freePorts(2);
      const [url, peerUrl] = [`http://127.0.0.1:${clients}`, `http://127.0.0.1:${peers}`];
      const flags = [
        `--name=${name}`,
        `--data-dir=${join(project, name)}`,
        `--listen-client-urls=${url}`,
        `--advertise-client-urls=${url}`,
        `--listen-peer-urls=${peerUrl}`,
        `--initial-advertise-peer-urls=${peerUrl}`,
        `--initial-cluster=${name}=${peerUrl}`,
      ];
      return { url, flags };
    };
    const command = await flagsOf("command");
    const embedded = await flagsOf("embedded");
    const name = file(
      "member.js",
      `import { startQuorate } from "quorate/node";
       await startQuorate(${JSON.stringify(embedded.flags)});`,
    );
    const readyText = "ready to serve client requests";
    const start = (args: string[]): Promise<Child> =>
      Child.start({ command: process.execPath, args, cwd: project, readyText });
    const children = await Promise.all([start([bin, ...command.flags]), start([name])]);
    try {
      for (const { url } of [command, embedded]) {
        const store = connect({ endpoints: [url] });
        await store.put("k", "v");
        expect((await store.get("k"))?.value).toBe("v");
        store.close();
      }
    } finally {
      await Promise.all(children.map((child) => child.stop()));
    }
  });

  test("a Worker of one's own: the edge re-exported, and the client beside it", async () => {
    const main = file(
      "worker.js",
      `import { createApp } from "quorate/edge";
       import { connect } from "quorate/client";
       export { LeaseHub } from "quorate/edge";
       const edge = createApp();
       export default {
         async fetch(request, env, context) {
           if (new URL(request.url).pathname !== "/app") return edge.fetch(request, env, context);
           const store = connect({ fetcher: { fetch: (url, init) => edge.fetch(new Request(url, init), env) } });
           return Response.json({ color: (await store.get("color"))?.value ?? null });
         },
       };`,
    );
    file(
      "wrangler.toml",
      `name = "app"
main = "${main}"
compatibility_date = "2026-11-02"
[[durable_objects.bindings]]
name = "LEASE_HUB"
class_name = "LeaseHub"
[[migrations]]
tag = "v1"
new_sqlite_classes = ["LeaseHub"]
`,
    );
    const wrangler = join(MODULES, "wrangler", "bin", "wrangler.js");
    const output = await run(process.execPath, wrangler, "deploy", "--dry-run", "--outdir", "out");
    expect(output).toContain("--dry-run: exiting now");
    expect(readFileSync(join(project, "out", "worker.js"), "utf8")).not.toMatch(/from\s*"node:/);
  });

  test.each(["browser", "workerd"])(
    "a bundle for %s has 12 KB at most, and no Node",
    async (condition) => {
      const name = file(
        "bundle.js",
        `export { connect, key, put, get, remove } from "quorate/client";`,
      );
      const { outputFiles } = await build({
        entryPoints: [join(project, name)],
        bundle: true,
        minify: true,
        write: false,
        format: "esm",
        platform: "browser",
        target: "es2022",
        conditions: [condition],
        logLevel: "error",
      });
      const text = outputFiles[0]?.text ?? "";
      const size = gzipSync(text, { level: 9 }).length;
      console.log(`packed client for ${condition}, gzip: ${size} bytes`);
      expect(size).toBeLessThanOrEqual(CORE_BYTES_MAX);
      expect(text).not.toMatch(/from\s*"(node:|ws")/);
    },
  );

  test.each([
    ["nodenext", "NodeNext", ["node"]],
    ["bundler", "ESNext", ["@cloudflare/workers-types"]],
  ])("TypeScript finds the types (%s)", async (moduleResolution, module, types) => {
    const imports =
      types[0] === "node"
        ? `import { startQuorate } from "quorate/node";
           export const member = startQuorate([]);`
        : `export { default, createApp, LeaseHub } from "quorate/edge";`;
    file(
      "app.ts",
      `import { connect, get, json, key, put } from "quorate/client";
       import type { Entry } from "quorate/client";
       import { cbor } from "quorate/client/cbor";
       import { startTestCluster } from "quorate/testing";
       ${imports}
       export async function app(): Promise<Entry<{ port: number }> | undefined> {
         const cluster = await startTestCluster();
         const store = connect({ edge: "https://edge.example" }).as(json<{ port: number }>());
         const { succeeded, results } = await store
           .txn().if(key("a").version.equals(0)).do(put("a", { port: 1 })).else(get("a")).commit();
         await cluster.connect().as(cbor<number>()).put("n", 1);
         // @ts-expect-error a port is a number
         await store.put("a", { port: "80" });
         return succeeded ? results[0].previous : results[0].entry;
       }`,
    );
    const compilerOptions = {
      strict: true,
      noEmit: true,
      skipLibCheck: true,
      target: "ES2023",
      lib:
        types[0] === "node"
          ? ["ES2023", "ESNext.Disposable", "DOM"]
          : ["ES2023", "ESNext.Disposable"],
      module,
      moduleResolution,
      types,
    };
    file("tsconfig.json", JSON.stringify({ compilerOptions, files: ["app.ts"] }));
    expect(await run(process.execPath, join(MODULES, "typescript", "bin", "tsc"), "-p", ".")).toBe(
      "",
    );
  });

  test("wrangler types describes the edge's bindings", async () => {
    const types = join(project, "bindings.d.ts");
    const wrangler = join(MODULES, "wrangler", "bin", "wrangler.js");
    const config = join(ROOT, "wrangler.toml");
    await run(process.execPath, wrangler, "types", types, "--config", config);
    expect(readFileSync(types, "utf8")).toMatch(/LEASE_HUB: DurableObjectNamespace/);
  });

  test("every subpath is there, and its files too", () => {
    const { exports } = manifest();
    const paths = Object.values(exports).flatMap((entry) =>
      typeof entry === "string" ? [entry] : Object.values(entry as Record<string, string>),
    );
    for (const path of paths) {
      expect(readFileSync(join(project, "node_modules", "quorate", path)).length).toBeGreaterThan(
        0,
      );
    }
    expect(Object.keys(exports)).toEqual([
      "./client",
      "./client/cbor",
      "./testing",
      "./edge",
      "./node",
      "./package.json",
    ]);
  });
});
