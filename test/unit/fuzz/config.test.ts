/** Fuzzing of what operators write: flags, environment, the config file, URLs, cluster maps, durations. */
import { writeFileSync } from "node:fs";
import * as fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { ConfigError } from "../../../node-runner/config/config-error.ts";
import { parseArguments } from "../../../node-runner/config/config.ts";
import { parseDuration } from "../../../node-runner/config/duration.ts";
import { FLAGS } from "../../../node-runner/config/flags.ts";
import { parseClusterMap, parseListenUrl, urlOf } from "../../../node-runner/config/url.ts";
import { utf8 } from "../../../shared/base/bytes.ts";
import { makeTempDir, removeTempDir } from "../../support/temp-dir.ts";
import { inputsLike, many } from "./harness.ts";

const folder = makeTempDir("fuzz");
afterAll(() => removeTempDir(folder));

/** Ends well, or with the error for operators, whose text is one line. */
function parse(args: readonly string[], environment: Record<string, string> = {}): void {
  try {
    parseArguments(args, environment);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    expect(error.message.length).toBeGreaterThan(0);
  }
}

const texts = fc.oneof(
  fc.string({ maxLength: 40 }),
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.constantFrom("", "-1", "0", "1e99", "99999999999999999999", "NaN", "true", "1h", "a=b", "://"),
  fc.constantFrom(
    "http://127.0.0.1:1",
    "http://[::1]:99999",
    "http://a:b",
    "unix://",
    "https://%zz",
  ),
);
const names = fc.constantFrom(...FLAGS.map(({ name }) => name));

test("flags", async () => {
  const flags = fc.oneof(
    texts,
    fc.tuple(names, texts).map(([name, text]) => `--${name}=${text}`),
    names.map((name) => `--${name}`),
  );
  await many(fc.array(flags, { maxLength: 5 }), (args) => parse(args));
});

test("environment", async () => {
  const variable = names.map((name) => `ETCD_${name.toUpperCase().replaceAll("-", "_")}`);
  await many(fc.dictionary(variable, texts, { maxKeys: 4 }), (variables) => parse([], variables));
});

test("config file", async () => {
  const path = `${folder}/config.yaml`;
  const files = [
    "name: a\ndata-dir: /tmp/x\nlisten-client-urls: http://127.0.0.1:1\n",
    "initial-cluster: a=http://127.0.0.1:1,b=http://127.0.0.1:2\nsnapshot-count: 10\n",
    "client-transport-security:\n  cert-file: a\n  client-cert-auth: true\n",
    "a: &a [*a]\n? {x: 1}\n: !!binary aGk=\n--- \nb: |\n  text\n",
  ];
  const content = fc.oneof(
    { weight: 4, arbitrary: inputsLike(files.map(utf8)) },
    {
      weight: 1,
      arbitrary: fc.dictionary(names, fc.jsonValue(), { maxKeys: 4 }).map((object) => {
        return utf8(JSON.stringify(object));
      }),
    },
  );
  await many(content, (bytes) => {
    writeFileSync(path, bytes);
    parse([`--config-file=${path}`]);
  });
});

test("a listen address that is taken is written as it was meant", async () => {
  await many(texts, (text) => {
    const address = parseListenUrl(text);
    if ("problem" in address) return;
    expect(parseListenUrl(urlOf(address))).toEqual(address);
  });
});

test("cluster maps", async () => {
  const parts = fc.array(
    fc.oneof(
      texts,
      fc.tuple(texts, texts).map((pair) => pair.join("=")),
    ),
  );
  await many(parts, (list) => {
    const map = parseClusterMap(list.join(","));
    if (!(map instanceof Map)) return;
    for (const urls of map.values()) {
      for (const url of urls as string[]) expect(parseListenUrl(url)).not.toHaveProperty("problem");
    }
  });
});

test("durations are finite, or none", async () => {
  const part = fc.tuple(
    fc.constantFrom("1", "0.5", ".5", "1.", "", "9".repeat(400), "-", "+"),
    fc.constantFrom("ns", "us", "µs", "ms", "s", "m", "h", "", "d", " "),
  );
  const durations = fc.oneof(
    texts,
    fc.array(part, { maxLength: 6 }).map((parts) => parts.flat().join("")),
  );
  await many(durations, (text) => {
    const milliseconds = parseDuration(text);
    if (milliseconds !== undefined) expect(Number.isFinite(milliseconds), text).toBe(true);
  });
});
