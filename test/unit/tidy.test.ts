/**
 * The rules of the tree that no linter knows: layers, cycles, sizes, headers, what the replicated
 * logic may not touch, and texts that belong to one file alone. A failure names the path and what
 * is allowed. Exceptions stand below by name, each with its reason, in a list meant to shrink.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "..", "..");

/**
 * Who may import whom: folders of shared, and the packages, by what they may see besides
 * themselves.
 */
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  "shared/base": [],
  "shared/raft": ["shared/base"],
  "shared/backend": ["shared/base"],
  "shared/mvcc": ["shared/base", "shared/backend"],
  "shared/lease": ["shared/base", "shared/backend"],
  "shared/wire": ["shared/base", "shared/raft"],
  "shared/api": ["shared/base"],
  "shared/peer": [
    "shared/base",
    "shared/raft",
    "shared/backend",
    "shared/mvcc",
    "shared/lease",
    "shared/wire",
    "shared/api",
  ],
  "shared/client": ["shared/base", "shared/api", "shared/wire"],
  "shared/replica": [
    "shared/base",
    "shared/backend",
    "shared/mvcc",
    "shared/wire",
    "shared/api",
    "shared/peer",
    "shared/client",
  ],
  "shared/testing": [
    "shared/base",
    "shared/raft",
    "shared/backend",
    "shared/wire",
    "shared/peer",
    "shared/client",
  ],
  "node-runner": ["shared/*"],
  worker: ["shared/*"],
  test: ["shared/*", "node-runner", "worker"],
};

/** Folders whose results every peer must compute alike. */
const REPLICATED = ["base", "raft", "backend", "mvcc", "lease", "wire"].map(
  (each) => `shared/${each}/`,
);

/** What none of them may name: clock, chance, concurrency and the runtime come in as arguments. */
const IMPURE =
  /\b(async|await|Promise|setTimeout|setInterval|setImmediate|queueMicrotask|Date\.now|new Date|Math\.random|performance|crypto|console|process)\b/;

/** Interfaces that speak of a promise, for hosts; they hold no logic. */
const IMPURE_EXCEPTIONS: Readonly<Record<string, string>> = {
  "shared/backend/backend.ts": "an interface whose close and install are the host's to wait for",
  "shared/backend/memory-backend.ts": "implements those two",
};

/** Files that may name a skip. */
const SKIPPING_FILES: Readonly<Record<string, string>> = {
  "test/unit/tidy.test.ts": "holds the rule",
  "test/support/tools.ts": "counts and prints the skip of a suite whose external tool is missing",
};

/** Files above 500 lines. */
const LONG_FILES: Readonly<Record<string, string>> = {};

const LINES_MAX = 500;
/** Of comments; code is the formatter's to break. */
const COMMENT_WIDTH_MAX = 120;

interface Source {
  readonly path: string;
  readonly text: string;
  readonly lines: readonly string[];
}

const sources = listSources();
const production = sources.filter(({ path }) => !path.startsWith("test/"));

function listSources(): readonly Source[] {
  const listed = execFileSync("git", ["ls-files", "-co", "--exclude-standard"], { cwd: root });
  return listed
    .toString()
    .split("\n")
    .filter((path) => /^(shared|node-runner|worker|test)\/.*\.(ts|js)$/.test(path))
    .filter((path) => !path.startsWith("shared/api/gen/") && existsSync(join(root, path)))
    .map((path) => {
      const text = readFileSync(join(root, path), "utf8");
      return { path, text, lines: text.split("\n") };
    });
}

function layerOf(path: string): string {
  const parts = path.split("/");
  return parts[0] === "shared" ? `shared/${parts[1]}` : (parts[0] as string);
}

function importsOf(source: Source): string[] {
  const pattern = /^(?:import|export)\b[^"';]*?from\s+"(\.[^"]+)"|^import\s+"(\.[^"]+)"/gm;
  return [...source.text.matchAll(pattern)].map((match) =>
    normalize(join(dirname(source.path), (match[1] ?? match[2]) as string)),
  );
}

/** Those of `places` that break a rule, as `path: what`; the assertion shows them all. */
function expectNone(places: readonly string[]): void {
  expect(places).toEqual([]);
}

describe("layers", () => {
  test("imports go only where the table allows", () => {
    const wrong: string[] = [];
    for (const source of sources) {
      const from = layerOf(source.path);
      const allowed = LAYERS[from] ?? [];
      for (const target of importsOf(source)) {
        const to = layerOf(target);
        const seen = to.startsWith("shared/") ? [to, "shared/*"] : [to];
        if (to === from || seen.some((each) => allowed.includes(each))) continue;
        wrong.push(`${source.path} imports ${target}; allowed: ${allowed.join(", ") || "nothing"}`);
      }
    }
    expectNone(wrong);
  });

  test("no module imports itself by a detour", () => {
    const graph = new Map(production.map((each) => [each.path, importsOf(each)]));
    const done = new Set<string>();
    const cycles: string[] = [];
    const visit = (path: string, trail: readonly string[]): void => {
      if (trail.includes(path)) {
        cycles.push([...trail.slice(trail.indexOf(path)), path].join(" -> "));
        return;
      }
      if (done.has(path)) return;
      for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
      done.add(path);
    };
    for (const path of graph.keys()) visit(path, []);
    expectNone(cycles);
  });

  test("shared imports no runtime, and the stateless proxy nothing of Cloudflare", () => {
    const wrong = production
      .filter(({ path }) => path.startsWith("shared/"))
      .filter(({ text }) => /from "(node|cloudflare):/.test(text))
      .map(({ path }) => path);
    expectNone(wrong);
  });
});

test("the replicated logic names no clock, chance, concurrency or runtime", () => {
  const wrong: string[] = [];
  for (const { path, lines } of sources) {
    if (!REPLICATED.some((folder) => path.startsWith(folder))) continue;
    if (path in IMPURE_EXCEPTIONS) continue;
    for (const [position, line] of lines.entries()) {
      const code = line.replace(/\/\/.*|^\s*\*.*|\/\*.*?\*\//g, "").replace(/"[^"]*"|`[^`]*`/g, "");
      if (IMPURE.test(code)) wrong.push(`${path}:${position + 1}: ${line.trim()}`);
    }
  }
  expectNone(wrong);
});

describe("files", () => {
  test("are named in kebab case", () => {
    expectNone(sources.map(({ path }) => path).filter((path) => !/^[a-z0-9./-]+$/.test(path)));
  });

  test("open with a header that says what they are for", () => {
    const wrong = sources.filter(({ text }) => !/^(#!.*\n)?\/\*\*/.test(text));
    expectNone(wrong.map(({ path }) => path));
  });

  test(`have at most ${LINES_MAX} lines, comments at most ${COMMENT_WIDTH_MAX} wide`, () => {
    const wrong: string[] = [];
    for (const { path, lines } of sources) {
      if (lines.length > LINES_MAX && !(path in LONG_FILES))
        wrong.push(`${path}: ${lines.length} lines`);
      for (const [position, line] of lines.entries()) {
        if (line.length > COMMENT_WIDTH_MAX && /^\s*(\/?\*|\/\/)/.test(line))
          wrong.push(`${path}:${position + 1}: ${line.length} wide`);
      }
    }
    expectNone(wrong);
  });

  test("exceptions still exist and are still needed", () => {
    const byPath = new Map(sources.map((each) => [each.path, each]));
    const stale = [
      ...Object.keys(LONG_FILES).filter(
        (path) => (byPath.get(path)?.lines.length ?? 0) <= LINES_MAX,
      ),
      ...Object.keys(IMPURE_EXCEPTIONS).filter(
        (path) => !IMPURE.test(byPath.get(path)?.text ?? ""),
      ),
    ];
    expectNone(stale);
  });

  test("etcd's error texts stand in the error table alone", () => {
    const wrong = production
      .filter(({ path }) => path !== "shared/api/errors.ts")
      .filter(({ text }) => /["'`]etcdserver: /.test(text))
      .map(({ path }) => path);
    expectNone(wrong);
  });

  test("tests are neither switched off nor left as the only ones", () => {
    const wrong: string[] = [];
    for (const { path, lines } of sources) {
      if (path in SKIPPING_FILES) continue;
      for (const [position, line] of lines.entries()) {
        if (/\b(test|it|describe)\.(only|skip|todo|fails)\(/.test(line))
          wrong.push(`${path}:${position + 1}`);
      }
    }
    expectNone(wrong);
  });
});

test("the lock file names each optional package of every platform, and no download address", () => {
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, { optionalDependencies?: Record<string, string>; resolved?: string }>;
  };
  const missing: string[] = [];
  for (const [path, entry] of Object.entries(lock.packages)) {
    if (entry.resolved?.startsWith("http") === true) missing.push(`${path}: resolved`);
    for (const name of Object.keys(path === "" ? {} : (entry.optionalDependencies ?? {}))) {
      const places = [`${path}/node_modules/${name}`, `node_modules/${name}`];
      if (!places.some((place) => place in lock.packages)) missing.push(`${path}: ${name}`);
    }
  }
  expectNone(missing);
});
