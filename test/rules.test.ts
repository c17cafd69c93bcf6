/**
 * The rules of the house that a machine can check, each with its reason. A rule is a row: what it says, why, how it is checked, and a
 * planted violation that proves the check can fail. Reviewers do not argue style: they add a row or let it pass.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { providerRows } from "../sidecar/providers.ts";
import { findSources, type Import, readSources, type Source } from "./kit/sources.ts";

/** All that rules look at: our files by path, and what package.json declares. */
interface House {
  readonly sources: ReadonlyMap<string, Source>;
  readonly manifest: Manifest;
}

interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
  readonly scripts: Readonly<Record<string, string>>;
  readonly exports?: unknown;
}

interface Rule {
  readonly says: string;
  readonly reason: string;
  /** Violations as `path:line: what`. */
  check(house: House): string[];
  /** Files that break the rule, and the path that the check must then name; several where a rule has several parts. */
  readonly plants: readonly Plant[];
}

interface Plant {
  readonly files: Readonly<Record<string, string>>;
  readonly caught: string;
}

const root = join(import.meta.dirname, "..");

const isTest = (path: string): boolean => path.startsWith("test/") || path.endsWith(".test.ts");
const isProduct = (path: string): boolean => /^(proto|sidecar|control)\//.test(path) && !isTest(path);
const isMain = (path: string): boolean => path.endsWith("/main.ts");

/** Steps of the build, which never run inside a program of ours. */
const buildSteps = new Set(["proto/dependencies.ts"]);

/** Where time, chance and the state of the process come from; everything else is given them. */
const lenders = new Set(["control/clock.ts", "sidecar/io/clock.ts", "sidecar/io/random.ts", "sidecar/io/load.ts"]);

/** Who may not import whom: `from` and `to` are tested against paths, packages and `node:` modules. */
function forbid(from: (path: string) => boolean, to: (imported: Import, path: string) => boolean): (house: House) => string[] {
  return ({ sources }) => {
    const violations: string[] = [];
    for (const source of sources.values()) {
      if (!from(source.path)) continue;
      for (const imported of source.imports) {
        if (to(imported, source.path)) violations.push(`${source.path}:${imported.line}: imports ${imported.specifier}`);
      }
    }
    return violations;
  };
}

/** Which packages one part of the house may use, and nobody else. */
function reserve(packages: readonly string[], allowed: (path: string) => boolean): (house: House) => string[] {
  return forbid(
    (path) => !allowed(path),
    ({ target }) => packages.includes(target),
  );
}

/** All files that importing `entries` brings in, types left out: what really runs. */
function reach(sources: ReadonlyMap<string, Source>, entries: Iterable<string>, types: boolean): Set<string> {
  const reached = new Set<string>();
  const waiting = [...entries];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    const source = sources.get(path);
    if (source === undefined || reached.has(path)) continue;
    reached.add(path);
    for (const imported of source.imports) if (types || !imported.typeOnly) waiting.push(imported.target);
  }
  return reached;
}

/** Programs and what package.json offers or runs: the files that need nobody to import them. */
function entriesOf({ sources, manifest }: House): string[] {
  const spoken = JSON.stringify([manifest.exports ?? {}, manifest.scripts]);
  return [...sources.keys()].filter(
    (path) =>
      isMain(path) ||
      path.endsWith(".d.ts") ||
      spoken.includes(path) ||
      spoken.includes(path.replace(/\.ts$/, ".js")) ||
      path === "test/kit/seed.ts" || // named by vitest.config.ts, which runs it before every test file
      !path.includes("/"),
  );
}

/** Names of companies and products behind providers. The first two are also names of doors and dialects, which are wire formats. */
const formatNames = ["openai", "anthropic"];
const providerNames = new Set([
  // A row that is added is one of them. Some rows are named for formats, programs or any server at all.
  ...Object.keys(providerRows)
    .map((row) => row.replace(/-.*/, ""))
    .filter((name) => !["anthropic", "compatible", "llama", "openai", "responses", "tgi"].includes(name)),
  "azure",
  "bedrock",
  "cerebras",
  "cohere",
  "dashscope",
  "databricks",
  "deepinfra",
  "deepseek",
  "fireworks",
  "gemini",
  "groq",
  "huggingface",
  "hyperbolic",
  "mistral",
  "moonshot",
  "nebius",
  "nvidia",
  "ollama",
  "openrouter",
  "perplexity",
  "sambanova",
  "together",
  "vertex",
  "vllm",
  "xai",
]);

/** Where the two wire formats that are also companies may be named: where a door or dialect is chosen, and nowhere that decides. */
const formatPlaces = [/^sidecar\/call\.ts$/, /^sidecar\/main\.ts$/, /^sidecar\/doors\/(openai|anthropic|listener)\.ts$/];

function namesAWord(text: string, name: string): boolean {
  // Names stand inside identifiers and addresses: `groqClient`, `api.groq.com`. "together" and "gemini" are matched as whole words.
  return new RegExp(`(^|[^a-z])${name}([^a-z]|$)`).test(text.replace(/([a-z0-9])([A-Z])/g, "$1 $2").toLowerCase());
}

/** Packages that the sidecar may bring into a pod, each with its reason. */
const sidecarPackages: Readonly<Record<string, string>> = {
  "@bufbuild/protobuf": "messages",
  "@bufbuild/protovalidate": "the rules written in the protos",
  "@connectrpc/connect": "RPC that is not hot",
  "@connectrpc/connect-node": "RPC that is not hot",
  undici: "the way out",
  zod: "settings",
  pino: "the log",
  "prom-client": "the counters",
  yaml: "policy files",
};

const rules: readonly Rule[] = [
  {
    says: "sidecar and control never import each other; only the command does, which starts both in one process",
    reason: "they are released apart, and a sidecar must not carry a control's weight",
    check: (house) => [
      ...forbid(
        (path) => path.startsWith("sidecar/") && !isTest(path),
        ({ target }) => target.startsWith("control/"),
      )(house),
      ...forbid(
        (path) => path.startsWith("control/") && !path.startsWith("control/cli/") && !isTest(path),
        ({ target }) => target.startsWith("sidecar/"),
      )(house),
    ],
    plants: [
      { files: { "sidecar/doors/x.ts": 'import { a } from "../../control/store/files.ts";' }, caught: "sidecar/doors/x.ts" },
      { files: { "control/store/x.ts": 'import type { Call } from "../../sidecar/call.ts";' }, caught: "control/store/x.ts" },
    ],
  },
  {
    says: "the command takes from the sidecar only what starts one: main, settings and the provider table",
    reason: "a command that reached into a sidecar could do what no operator can do from outside",
    check: forbid(
      (path) => path.startsWith("control/cli/") && !isTest(path),
      ({ target }) =>
        target.startsWith("sidecar/") &&
        !["sidecar/main.ts", "sidecar/settings.ts", "sidecar/providers.ts", "sidecar/call.ts"].includes(target),
    ),
    plants: [{ files: { "control/cli/x.ts": 'import { a } from "../../sidecar/io/upstream.ts";' }, caught: "control/cli/x.ts" }],
  },
  {
    says: "proto imports nothing of ours and nothing of Node",
    reason: "applications use it in browsers too",
    check: (house) =>
      forbid(
        (path) => path.startsWith("proto/") && !isTest(path) && !buildSteps.has(path),
        ({ target }) => target.startsWith("node:") || /^(sidecar|control|test)\//.test(target),
      )(house),
    plants: [
      { files: { "proto/x.ts": 'import { readFileSync } from "node:fs";' }, caught: "proto/x.ts" },
      { files: { "proto/x.ts": 'import type { Call } from "../sidecar/call.ts";' }, caught: "proto/x.ts" },
    ],
  },
  {
    says: "dialects, framing and semantic import themselves, proto and zod only",
    reason: "translation is pure: no I/O, no clock, no environment, so that any bytes can be tested anywhere",
    check: forbid(
      (path) => /^sidecar\/(dialects|framing|semantic)\//.test(path) && !isTest(path),
      ({ target }) => !/^(sidecar\/(dialects|framing|semantic)|proto)\//.test(target) && target !== "zod",
    ),
    plants: [
      { files: { "sidecar/dialects/openai/x.ts": 'import { Buffer } from "node:buffer";' }, caught: "sidecar/dialects/openai/x.ts" },
      { files: { "sidecar/framing/x.ts": 'import type { Call } from "../call.ts";' }, caught: "sidecar/framing/x.ts" },
    ],
  },
  {
    says: "framing imports no dialect, and no dialect imports another",
    reason: "bytes to frames knows nothing of meaning; twenty dialects that lean on each other are one that nobody can change",
    check: (house) => [
      ...forbid(
        (path) => path.startsWith("sidecar/framing/"),
        ({ target }) => target.startsWith("sidecar/dialects/"),
      )(house),
      ...forbid(
        (path) => dialectOf(path) !== undefined && !isTest(path),
        ({ target }, path) => dialectOf(target) !== undefined && dialectOf(target) !== dialectOf(path),
      )(house),
    ],
    plants: [
      { files: { "sidecar/framing/x.ts": 'import { a } from "../dialects/refusal.ts";' }, caught: "sidecar/framing/x.ts" },
      {
        files: { "sidecar/dialects/openai/x.ts": 'import { a } from "../anthropic/models.ts";' },
        caught: "sidecar/dialects/openai/x.ts",
      },
    ],
  },
  {
    says: "a filter imports call.ts, proto and types; never another filter, a dialect, a door or io",
    reason: "built-in filters use only what a plugin could; I/O arrives as an argument",
    check: forbid(
      (path) => path.startsWith("sidecar/filters/") && !isTest(path),
      ({ target, typeOnly }) =>
        target !== "sidecar/call.ts" &&
        !target.startsWith("proto/") &&
        !(typeOnly && target === "sidecar/dialects/dialect.ts") &&
        !(typeOnly && !/^sidecar\/(filters|dialects|doors|io)\//.test(target) && !/^(control|test)\//.test(target)),
    ),
    plants: [
      { files: { "sidecar/filters/x.ts": 'import { route } from "./route.ts";' }, caught: "sidecar/filters/x.ts" },
      { files: { "sidecar/filters/x.ts": 'import type { Door } from "../doors/exchange.ts";' }, caught: "sidecar/filters/x.ts" },
      { files: { "sidecar/filters/x.ts": 'import { createHash } from "node:crypto";' }, caught: "sidecar/filters/x.ts" },
    ],
  },
  {
    says: "the mesh room imports itself, proto, call.ts, and what policy is offered to and kept by; never io, a door, or Node",
    reason: "the client of control is tested with the test's own clock, network and disk, ten thousand times over",
    check: forbid(
      (path) => path.startsWith("sidecar/mesh/") && !isTest(path),
      ({ target, typeOnly }) =>
        !/^(sidecar\/mesh|proto)\//.test(target) &&
        !["sidecar/call.ts", "sidecar/policy/lastKnownGood.ts"].includes(target) &&
        !target.startsWith("@bufbuild/protobuf") &&
        !(typeOnly && /^sidecar\/(policy|filters)\//.test(target)),
    ),
    plants: [
      { files: { "sidecar/mesh/x.ts": 'import { hash } from "node:crypto";' }, caught: "sidecar/mesh/x.ts" },
      { files: { "sidecar/mesh/x.ts": 'import { dialControl } from "../io/control.ts";' }, caught: "sidecar/mesh/x.ts" },
      { files: { "sidecar/mesh/x.ts": 'import { watchPolicy } from "../policy/watch.ts";' }, caught: "sidecar/mesh/x.ts" },
    ],
  },
  {
    says: "only io/upstream.ts imports undici",
    reason: "one way out: one place that dials, one place to check where to",
    check: reserve(["undici"], (path) => ["sidecar/io/upstream.ts", "sidecar/io/undici.d.ts"].includes(path) || isTest(path)),
    plants: [{ files: { "sidecar/policy/x.ts": 'import { Pool } from "undici";' }, caught: "sidecar/policy/x.ts" }],
  },
  {
    says: "only doors, control's services and the demo provider speak HTTP as a server, and only io/control.ts dials control",
    reason: "what is sent to callers is decided in one place; control and the demo provider are servers of their own",
    check: reserve(
      ["@connectrpc/connect-node", "node:http", "node:http2", "node:https", "node:net", "node:tls", "node:dgram"],
      (path) =>
        /^(sidecar\/doors|control\/demo|control\/serve|control\/cli)\//.test(path) ||
        // Each the one place that asks something outside: control, and a cluster's API server.
        ["sidecar/io/control.ts", "control/mesh/apiServer.ts"].includes(path) ||
        isTest(path),
    ),
    plants: [
      { files: { "sidecar/filters/x.ts": 'import type { Server } from "node:http2";' }, caught: "sidecar/filters/x.ts" },
      { files: { "sidecar/policy/x.ts": 'import { connect } from "node:net";' }, caught: "sidecar/policy/x.ts" },
    ],
  },
  {
    says: "only tests import the clients that we are tested with",
    reason: "what stands beside us in a test must not be a part of us",
    check: reserve(
      [
        "@grpc/grpc-js",
        "@grpc/reflection",
        "openai",
        "@anthropic-ai/sdk",
        "eventsource-parser",
        "playwright-core",
        "vitest",
        "fast-check",
        "esbuild",
      ],
      (path) => isTest(path) || path === "vitest.config.ts",
    ),
    plants: [{ files: { "sidecar/doors/x.ts": 'import { Server } from "@grpc/grpc-js";' }, caught: "sidecar/doors/x.ts" }],
  },
  {
    says: "no product file imports a test",
    reason: "what ships must not need what does not",
    check: forbid(isProduct, ({ target }) => isTest(target)),
    plants: [
      { files: { "sidecar/x.ts": 'import { replay } from "../test/kit/replay.ts";' }, caught: "sidecar/x.ts" },
      { files: { "sidecar/x.ts": 'export { a } from "./framing/sse.test.ts";' }, caught: "sidecar/x.ts" },
    ],
  },
  {
    says: "only a main.ts reads the environment, the clock, chance, or starts timers; io/clock.ts, random.ts and load.ts lend them out",
    reason: "time and randomness arrive as arguments, or no test can hold them",
    check: ({ sources }) => {
      const violations: string[] = [];
      for (const source of sources.values()) {
        if (!isProduct(source.path) || isMain(source.path) || buildSteps.has(source.path)) continue;
        if (lenders.has(source.path)) continue;
        for (const { text, line } of source.globals) {
          if (reachesOut(text)) violations.push(`${source.path}:${line}: uses ${text}`);
        }
        for (const imported of source.imports) {
          if (["node:timers", "node:timers/promises", "node:perf_hooks", "node:process"].includes(imported.target)) {
            violations.push(`${source.path}:${imported.line}: imports ${imported.specifier}`);
          }
        }
      }
      return violations;
    },
    plants: [
      { files: { "sidecar/x.ts": "export const f = () => Date.now();" }, caught: "sidecar/x.ts" },
      { files: { "sidecar/x.ts": "export const f = () => new Date();" }, caught: "sidecar/x.ts" },
      { files: { "sidecar/x.ts": "export const f = () => Math.random();" }, caught: "sidecar/x.ts" },
      { files: { "sidecar/x.ts": "export const f = () => process.env.KEY;" }, caught: "sidecar/x.ts" },
      { files: { "sidecar/x.ts": "export const f = () => setTimeout(() => {}, 1);" }, caught: "sidecar/x.ts" },
      { files: { "sidecar/x.ts": "export const f = () => AbortSignal.timeout(1);" }, caught: "sidecar/x.ts" },
      { files: { "sidecar/x.ts": "const { env } = process; export const f = () => env;" }, caught: "sidecar/x.ts" },
      { files: { "sidecar/x.ts": 'import { setTimeout } from "node:timers/promises"; export { setTimeout };' }, caught: "sidecar/x.ts" },
    ],
  },
  {
    says: "importing a file does nothing: no statements that run, no variables that outlive a call, nothing built but holders",
    reason:
      "what runs on import runs in every test and every program, unasked; state beside the calls is what two sidecars in one process share",
    check: ({ sources }) =>
      [...sources.values()]
        .filter(({ path }) => isProduct(path) && !isMain(path) && !buildSteps.has(path))
        .flatMap(({ path, effects }) => effects.map(({ text, line }) => `${path}:${line}: has ${text}`)),
    plants: [
      { files: { "sidecar/x.ts": 'console.log("loaded");' }, caught: "sidecar/x.ts" },
      { files: { "sidecar/x.ts": "let count = 0; export const f = () => ++count;" }, caught: "sidecar/x.ts" },
      { files: { "sidecar/x.ts": "export const agent = new Agent();" }, caught: "sidecar/x.ts" },
      { files: { "sidecar/x.ts": "export class A { static readonly pool = new Pool(); }" }, caught: "sidecar/x.ts" },
      { files: { "sidecar/x.ts": "export const data = await read();" }, caught: "sidecar/x.ts" },
    ],
  },
  {
    says: "no provider's name stands in code outside providers.ts, its dialect's folder and tests",
    reason: "ask what, never who: a difference is a property that a row declares",
    check: ({ sources }) => {
      const violations: string[] = [];
      // One dialect is spoken at two places of one maker, the second of which is a field of its options.
      const dialectNames = new Set([...[...sources.keys()].map(dialectOf), "vertex"]);
      for (const source of sources.values()) {
        if (!isProduct(source.path) || source.path === "sidecar/providers.ts") continue;
        // Models that one endpoint has of many makers begin with the makers' names; a dialect's table of models is data about those.
        if (/^sidecar\/dialects\/[a-z0-9]+\/models\.ts$/.test(source.path)) continue;
        // The demo provider and the command's greeting are examples: they tell people which variables and SDKs to set.
        if (/^control\/(demo|cli)\//.test(source.path)) continue;
        // Whose tokens a file fetches is its name; the issuer's own variables and addresses bear the maker's.
        const issued = source.path === "sidecar/io/credentials/entra.ts" ? "azure" : undefined;
        const own = dialectOf(source.path);
        // Where policy's word for a dialect becomes the dialect, every dialect is named.
        const chooses = source.path.startsWith("sidecar/policy/");
        for (const { text, line } of source.words) {
          for (const name of providerNames) {
            if (chooses && dialectNames.has(name)) continue;
            if (name !== own && name !== issued && namesAWord(text, name))
              violations.push(`${source.path}:${line}: names ${name} in ${text.slice(0, 60)}`);
          }
          if (chooses || formatPlaces.some((place) => place.test(source.path))) continue;
          for (const name of formatNames) {
            if (name !== own && namesAWord(text, name)) violations.push(`${source.path}:${line}: names ${name} in ${text.slice(0, 60)}`);
          }
        }
      }
      return violations;
    },
    plants: [
      { files: { "sidecar/filters/x.ts": 'export const f = (p: string) => p === "groq";' }, caught: "sidecar/filters/x.ts" },
      { files: { "sidecar/filters/x.ts": "export const isDeepseekModel = 1;" }, caught: "sidecar/filters/x.ts" },
      { files: { "sidecar/policy/compile.ts": 'export const f = (p: string) => p === "groq";' }, caught: "sidecar/policy/compile.ts" },
      { files: { "sidecar/doors/pump.ts": 'export const f = (d: string) => d === "anthropic";' }, caught: "sidecar/doors/pump.ts" },
      { files: { "sidecar/dialects/openai/x.ts": 'export const u = "https://api.mistral.ai";' }, caught: "sidecar/dialects/openai/x.ts" },
    ],
  },
  {
    says: "no cycles",
    reason: "two files that need each other are one file that cannot be read",
    check: ({ sources }) => findCycles(sources),
    plants: [
      {
        files: {
          "sidecar/x.ts": 'import { b } from "./y.ts"; export const a = b;',
          "sidecar/y.ts": 'import type { a } from "./x.ts"; export type b = typeof a;',
        },
        caught: "sidecar/x.ts",
      },
    ],
  },
  {
    says: "nothing is unimported: every file is reached from a main.ts, a package export, a script or a test",
    reason: "a file that nobody uses is read, kept and trusted for nothing",
    check: (house) => {
      const entries = entriesOf(house);
      const products = reach(house.sources, entries, true);
      const everything = reach(house.sources, [...entries, ...[...house.sources.keys()].filter((path) => path.endsWith(".test.ts"))], true);
      return [...house.sources.keys()]
        .filter((path) => !(isProduct(path) ? products : everything).has(path) && !path.endsWith(".test.ts"))
        .map((path) => `${path}:1: nobody imports it${everything.has(path) ? " but its tests" : ""}`);
    },
    plants: [
      { files: { "sidecar/x.ts": "export const a = 1;" }, caught: "sidecar/x.ts" },
      { files: { "sidecar/x.ts": "export const a = 1;", "sidecar/x.test.ts": 'import { a } from "./x.ts"; a;' }, caught: "sidecar/x.ts" },
    ],
  },
  {
    says: "every relative import names a file that exists, with its ending",
    reason: "Node strips types and does not guess",
    check: ({ sources }) =>
      [...sources.values()].flatMap((source) =>
        source.imports
          .filter(({ specifier, target }) => specifier.startsWith(".") && !sources.has(target) && !target.startsWith("proto/gen/"))
          .map(({ specifier, line }) => `${source.path}:${line}: imports ${specifier}, which is no file`),
      ),
    plants: [{ files: { "sidecar/x.ts": 'import type { Call } from "./call";' }, caught: "sidecar/x.ts" }],
  },
  {
    says: "no file or folder is named utils, helpers, common, shared, base, manager or misc",
    reason: "if only such a name fits, the thing has not been found yet",
    check: ({ sources }) =>
      [...sources.keys()]
        .filter((path) => /(^|\/)(utils?|helpers?|common|shared|base|managers?|misc)(\.[^/]*)?(\/|$)/i.test(path))
        .map((path) => `${path}:1: is named for no thing`),
    plants: [
      { files: { "sidecar/doors/helpers.ts": "export {};" }, caught: "sidecar/doors/helpers.ts" },
      { files: { "sidecar/common/x.ts": "export {};" }, caught: "sidecar/common/x.ts" },
      { files: { "test/kit/util.test.ts": "export {};" }, caught: "test/kit/util.test.ts" },
    ],
  },
  {
    says: "what is imported is declared in package.json, for a product file among the dependencies",
    reason: "a package that comes only because another needs it goes when that one does",
    check: ({ sources, manifest }) =>
      [...sources.values()].flatMap((source) =>
        source.imports
          .filter(({ specifier, target, typeOnly }) => {
            if (specifier.startsWith(".") || specifier.startsWith("node:")) return false;
            const dev = !isProduct(source.path) || buildSteps.has(source.path) || typeOnly;
            return !(target in manifest.dependencies) && !(dev && target in manifest.devDependencies);
          })
          .map(({ specifier, line }) => `${source.path}:${line}: imports ${specifier}, which is not declared`),
      ),
    plants: [
      { files: { "sidecar/x.ts": 'import lodash from "lodash"; export { lodash };' }, caught: "sidecar/x.ts" },
      { files: { "sidecar/x.ts": 'import { test } from "vitest"; export { test };' }, caught: "sidecar/x.ts" },
    ],
  },
  {
    says: "what is declared is used",
    reason: "each package is weight, and a way in",
    check: ({ sources, manifest }) => {
      const used = new Set([...sources.values()].flatMap(({ imports }) => imports.map(({ target }) => target)));
      const product = new Set(
        [...sources.values()].filter(({ path }) => isProduct(path)).flatMap(({ imports }) => imports.map(({ target }) => target)),
      );
      return [
        ...Object.keys(manifest.dependencies)
          .filter((name) => !product.has(name))
          .map((name) => `package.json:1: nothing that ships imports ${name}`),
        ...Object.keys(manifest.devDependencies)
          .filter((name) => !used.has(name) && !(name in tools))
          .map((name) => `package.json:1: nothing uses ${name}`),
      ];
    },
    plants: [],
  },
  {
    says: "what a running sidecar loads holds no control, no test, and no package that is not listed with its reason",
    reason: "it stands beside every application: its start, its memory and its attack surface are paid thousands of times",
    check: ({ sources }) => {
      const violations: string[] = [];
      for (const path of reach(sources, ["sidecar/main.ts"], false)) {
        if (!/^(sidecar|proto)\//.test(path)) violations.push(`${path}:1: is loaded by the sidecar`);
        for (const { target, specifier, typeOnly, line } of sources.get(path)?.imports ?? []) {
          const own = specifier.startsWith(".") || target.startsWith("node:");
          if (!own && !typeOnly && !(target in sidecarPackages)) violations.push(`${path}:${line}: brings ${target} into the sidecar`);
        }
      }
      return violations;
    },
    plants: [
      {
        files: { "sidecar/main.ts": 'import { a } from "./x.ts"; a();', "sidecar/x.ts": 'export { a } from "@kubernetes/client-node";' },
        caught: "sidecar/x.ts",
      },
    ],
  },
];

/** Packages that are run and not imported, each with what runs it. */
const tools: Readonly<Record<string, string>> = {
  "@biomejs/biome": "lint and format",
  "@bufbuild/buf": "lint, format and generate protos",
  "@bufbuild/protoc-gen-es": "called by buf",
  "@types/node": "read by the compiler",
  "@grpc/reflection": "holds the reflection proto",
  "google-proto-files": "holds the google.rpc protos",
  "grpc-health-check": "holds the health proto",
  node: "the runtime",
};

/** The dialect in whose folder, or whose door, a file is. */
function dialectOf(path: string): string | undefined {
  return /^sidecar\/dialects\/([a-z0-9]+)\//.exec(path)?.[1];
}

/** Whether a use of a global reaches for time, chance, the process or the network. Pure arithmetic and reading dates do not. */
function reachesOut(use: string): boolean {
  if (use.startsWith("Math.")) return use === "Math.random";
  if (use.startsWith("Date.")) return use === "Date.now";
  if (use.startsWith("AbortSignal.")) return use === "AbortSignal.timeout";
  // The next turn of the loop is no time of its own: writes are gathered until then.
  return use !== "setImmediate" && use !== "process.nextTick" && use !== "Math" && use !== "AbortSignal";
}

/** Each cycle once, named by its first file, found by depth-first search. */
function findCycles(sources: ReadonlyMap<string, Source>): string[] {
  const done = new Set<string>();
  const way: string[] = [];
  const cycles: string[] = [];
  const visit = (path: string): void => {
    const at = way.indexOf(path);
    if (at >= 0) {
      const cycle = way.slice(at);
      cycles.push(`${[...cycle].sort()[0]}:1: is part of the cycle ${[...cycle, path].join(" -> ")}`);
      return;
    }
    if (done.has(path)) return;
    way.push(path);
    for (const { target } of sources.get(path)?.imports ?? []) visit(target);
    way.pop();
    done.add(path);
  };
  for (const path of sources.keys()) visit(path);
  return cycles;
}

const manifest: Manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const texts = findSources(root);
const planted = rules.flatMap((rule) => rule.plants.map((plant) => ({ rule, plant })));
const [ours, ...parsedPlants] = readSources([texts, ...planted.map(({ plant }) => new Map(Object.entries(plant.files)))]);
if (ours === undefined) throw new Error("no tree was read");
const house: House = { sources: ours, manifest };

test("the sources are found", () => {
  expect(ours.has("sidecar/call.ts")).toBe(true);
  expect(ours.has("test/rules.test.ts")).toBe(true);
});

for (const { says, reason, check } of rules) {
  test(`${says}: ${reason}`, () => {
    expect(check(house)).toEqual([]);
  });
}

planted.forEach(({ rule, plant }, index) => {
  test(`can fail: ${rule.says}: ${JSON.stringify(plant.files)}`, () => {
    const sources = new Map([...ours, ...(parsedPlants[index] ?? [])]);
    const violations = rule.check({ sources, manifest });
    expect(violations.filter((violation) => violation.startsWith(`${plant.caught}:`))).not.toEqual([]);
  });
});

test("can fail: what is declared is used", () => {
  const rule = rules.find(({ says }) => says === "what is declared is used");
  const padded = { ...manifest, dependencies: { ...manifest.dependencies, "left-pad": "1.0.0" } };
  expect(rule?.check({ sources: ours, manifest: padded })).toContain("package.json:1: nothing that ships imports left-pad");
});

/** Beside reading the code: importing every product file in one process leaves nothing running and says nothing. */
test("importing every file leaves nothing behind", () => {
  const files = [...texts.keys()].filter((path) => isProduct(path) && !isMain(path) && !buildSteps.has(path));
  const program = `
    // Node itself opens piped standard streams when its HTTP modules or its process module are imported.
    await import("node:http");
    await import("node:process");
    const before = process.getActiveResourcesInfo().length;
    for (const path of ${JSON.stringify(files.map((path) => join(root, path)))}) await import(path);
    const after = process.getActiveResourcesInfo();
    if (after.length !== before) throw new Error("something runs: " + after);
  `;
  const said = execFileSync(process.execPath, ["--input-type=module", "--eval", program], {
    cwd: dirname(root),
    encoding: "utf8",
    timeout: 60_000,
  });
  expect(said).toBe("");
});
