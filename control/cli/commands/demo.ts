/** `outrigger demo`: a provider that makes its answers up, what else is found on this machine, and one sidecar before them all. */
import { writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { snapshotOf } from "../../../proto/snapshot.ts";
import { providerRows } from "../../../sidecar/providers.ts";
import { modelNames } from "../../demo/models.ts";
import { type DemoProvider, startDemoProvider } from "../../demo/server.ts";
import { sha256 } from "../../sha256.ts";
import { callLines } from "../callLines.ts";
import { demoPolicy, type KeyedProvider, type LocalProvider, type PolicyDocument, readDocuments, writeYaml } from "../demoPolicy.ts";
import { controlOf } from "../oneProcess.ts";
import { apiLine, besideSidecar, openPolicyApi, type PolicyApi, type PolicyApiOptions } from "../policyApi.ts";
import { listening, startWithPolicy } from "../sidecar.ts";
import { type Terminal, table } from "../terminal.ts";
import { Failure, type World } from "../world.ts";

// An import would load Node's own undici with it (`sidecar/doors/nodeHttp.ts`), a tenth of this command's whole start.
const { get } = createRequire(import.meta.url)("node:http") as typeof import("node:http");

/** What the command line says. */
export interface DemoOptions {
  readonly host: string;
  readonly port: number;
  readonly opsPort: number;
  readonly providerPort: number;
  /** Whether to start the demo provider alone. */
  readonly providerOnly: boolean;
  readonly seed: string;
  /** Where calls for `smart` go, as `provider/model`, or undefined. */
  readonly smart: string | undefined;
  /** A file to write the policy to, or undefined. */
  readonly export: string | undefined;
  readonly quiet: boolean;
  /** The Policy API, or null for none. */
  readonly policyApi: PolicyApiOptions | null;
}

/** What a key is set to by those who follow our own advice: SDKs want one, and it is not a key for anybody. */
const placeholderKey = "outrigger";

/** How long a server on this machine may take to show that it is there: nobody waits longer for the first answer because of it. */
const localWaitMs = 200;

/** Runs until the process is asked to stop. */
export async function demo(world: World, terminal: Terminal, options: DemoOptions): Promise<number> {
  // Whoever stops it while it starts has it started and stopped in order.
  const stopped = world.stopped();
  const [provider, local] = await Promise.all([openProvider(world, options), options.providerOnly ? [] : findLocal(world)]);
  try {
    if (options.providerOnly) {
      await terminal.result({ endpoint: provider.endpoint }, providerText(terminal, provider));
      await stopped;
      return 0;
    }
    const keyed = findKeyed(world.environment);
    const documents = demoPolicy({
      demoEndpoint: provider.endpoint,
      demoModels: modelNames,
      keyed,
      local,
      smart: readSmart(options.smart, keyed, local),
    });
    const resources = readDocuments(documents);
    const read = { resources, problems: [], root: snapshotOf(resources, sha256).root };
    // What was found at the start holds to the end, save what is changed through the Policy API.
    const control = await controlOf(world, read, { subscribe: () => () => undefined });
    const settings = {
      listen: { host: options.host, port: options.port },
      ops: { host: options.host, port: options.opsPort },
      logLevel: options.quiet ? "silent" : "info",
    } as const;
    const log = callLines(terminal, true);
    const sidecar = await startWithPolicy(world, settings, control.source, log);
    const api = await besideSidecar(sidecar, openPolicyApi(world, options.policyApi, { ...control, log }));
    try {
      // Only now: a start that failed must not leave a file behind that the next one refuses to overwrite.
      if (options.export !== undefined) await writeExport(options.export, await writeYaml(documents));
    } catch (error) {
      await api?.close();
      await sidecar.close();
      throw error;
    }
    const address = listening(options.host, sidecar.port);
    const opsAddress = listening(options.host, sidecar.opsPort);
    const smart = documents.find((one) => one.kind === "ModelRoute" && one.metadata.name === "smart")?.spec.targets;
    const rows = providerLines(documents, keyed, local);
    await terminal.result(
      {
        address: `http://${address}`,
        operations: `http://${opsAddress}`,
        policyApi: api === undefined ? null : { address: api.address, tokenFile: api.tokenPath },
        demoProvider: provider.endpoint,
        providers: rows,
        smart,
      },
      greeting(terminal, world, address, opsAddress, rows, options.export, api),
    );
    await Promise.race([stopped, sidecar.closed]);
    await api?.close();
    await sidecar.close();
    return 0;
  } finally {
    await provider.close();
  }
}

async function openProvider(world: World, options: DemoOptions): Promise<DemoProvider> {
  try {
    return await startDemoProvider({ host: "127.0.0.1", port: options.providerPort, seed: options.seed, clock: world.clock });
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EADDRINUSE") {
      throw new Failure(
        `Port ${options.providerPort} for the demo provider is in use.`,
        "Stop what listens there, or choose another with --provider-port.",
      );
    }
    throw error;
  }
}

function findKeyed(environment: World["environment"]): KeyedProvider[] {
  const found: KeyedProvider[] = [];
  for (const [row, { dialect, endpoint, keyVariable, modelPatterns }] of Object.entries(providerRows)) {
    const key = keyVariable === undefined ? undefined : environment[keyVariable]?.trim();
    if (keyVariable === undefined || key === undefined || key === "" || key === placeholderKey) continue;
    // A key alone does not say where such a provider is.
    if (endpoint === "") continue;
    found.push({ row, dialect, keyVariable, modelPatterns });
  }
  return found;
}

/** Asks each row that is a server on this machine whether it is there. */
async function findLocal(world: World): Promise<LocalProvider[]> {
  const rows = Object.entries(providerRows).filter(([, row]) => row.dialect === "openai" && row.endpoint.startsWith("http://127.0.0.1:"));
  const found = await Promise.all(
    rows.map(async ([row, { endpoint }]) => ({ row, models: await listModels(`${endpoint}/models`, world) })),
  );
  return found.flatMap(({ row, models }) => (models === undefined ? [] : [{ row, models }]));
}

/** The models that a server lists, or undefined if nothing answers in time. */
function listModels(url: string, world: World): Promise<string[] | undefined> {
  return new Promise((done) => {
    const request = get(url, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (piece: string) => {
        // A list of models is small; whatever sends more is something else.
        if (text.length < 1_000_000) text += piece;
      });
      response.on("end", () => finish(response.statusCode === 200 ? readList(text) : undefined));
      response.on("error", () => finish(undefined));
    });
    const takeBack = world.clock.after(localWaitMs, () => request.destroy());
    const finish = (models: string[] | undefined) => {
      takeBack();
      done(models);
    };
    request.on("error", () => finish(undefined));
    request.on("close", () => finish(undefined));
  });
}

function readList(text: string): string[] | undefined {
  try {
    const list: unknown = JSON.parse(text);
    if (typeof list !== "object" || list === null || !("data" in list) || !Array.isArray(list.data)) return undefined;
    return list.data.flatMap((entry: { readonly id?: unknown } | null) => (typeof entry?.id === "string" ? [entry.id] : []));
  } catch {
    return undefined;
  }
}

function readSmart(text: string | undefined, keyed: readonly KeyedProvider[], local: readonly LocalProvider[]) {
  if (text === undefined) return undefined;
  const names = ["demo", ...keyed.map(({ row }) => row), ...local.map(({ row }) => row)];
  const [, provider = "", model = ""] = /^([^/]+)\/(.+)$/s.exec(text) ?? [];
  if (names.includes(provider)) return { provider, model };
  throw new Failure(
    `--smart ${text} names no provider that was found: expected provider/model with one of ${names.join(", ")}.`,
    "Set the provider's key in the environment, or choose one of these.",
  );
}

async function writeExport(path: string, text: string): Promise<void> {
  try {
    await writeFile(path, text, { flag: "wx" });
  } catch (error) {
    const exists = error instanceof Error && "code" in error && error.code === "EEXIST";
    throw new Failure(
      exists ? `${path} exists already, and --export overwrites nothing.` : `${path} could not be written: ${String(error)}`,
      exists ? "Name another file, or remove that one." : undefined,
    );
  }
}

interface ProviderLine {
  readonly provider: string;
  readonly models: readonly string[];
  readonly found: string;
}

/** Each provider with all patterns that lead to it, read from what really runs. */
function providerLines(
  documents: readonly PolicyDocument[],
  keyed: readonly KeyedProvider[],
  local: readonly LocalProvider[],
): ProviderLine[] {
  const routes = readDocuments(documents).routes;
  const line = (provider: string, found: string): ProviderLine => {
    const toIt = routes.filter(({ spec }) => spec?.targets.some((target) => target.provider === provider));
    const models = toIt.flatMap(({ spec }) => spec?.match?.models ?? []);
    const patterns = models.filter((model) => model.endsWith("*"));
    // A name that a pattern beside it takes in says nothing more.
    const covered = (model: string) => patterns.some((pattern) => pattern !== model && model.startsWith(pattern.slice(0, -1)));
    return { provider, models: models.filter((model) => !covered(model)), found };
  };
  return [
    line("demo", "built in, made up, free"),
    ...local.map(({ row }) => line(row, "answers on this machine")),
    ...keyed.map(({ row, keyVariable }) => line(row, keyVariable)),
  ];
}

function greeting(
  terminal: Terminal,
  world: Pick<World, "version" | "command">,
  address: string,
  opsAddress: string,
  rows: readonly ProviderLine[],
  exported: string | undefined,
  api: PolicyApi | undefined,
): string {
  const bold = (text: string) => terminal.style("bold", text);
  const body = '{"model":"smart","stream":true,"messages":[{"role":"user","content":"Why is the sea salt?"}]}';
  const rpcBody = '{"chat":{"model":"smart","messages":[{"role":"ROLE_USER","parts":[{"text":{"text":"Why is the sea salt?"}}]}]}}';
  const lines = [
    `${bold(`Outrigger ${world.version}`)} listens on http://${address}, operations on http://${opsAddress}`,
    "",
    table(
      ["PROVIDER", "MODELS", "FOUND BY"],
      rows.map(({ provider, models, found }) => [provider, shownModels(models), found]),
      "  ",
    ),
    bold("Ask it"),
    `  ${world.command} chat "Why is the sea salt?"`,
    `  curl -N http://${address}/v1/chat/completions -H 'content-type: application/json' -d '${body}'`,
    `  grpcurl -plaintext -d '${rpcBody}' ${address} outrigger.chat.v1.ChatCompletionService/StreamChatCompletion`,
    "",
    bold("Point your code at it"),
    `  export OPENAI_BASE_URL=http://${address}/v1 OPENAI_API_KEY=${placeholderKey}`,
    `  export ANTHROPIC_BASE_URL=http://${address} ANTHROPIC_API_KEY=${placeholderKey}`,
    "",
    api === undefined ? "" : apiLine(api, world.command),
    exported === undefined ? "" : `The policy that runs is in ${exported}.`,
    `Try the models demo:tools, demo:reasoning, demo:slow, demo:flaky, demo:429. Ctrl-C stops everything.`,
  ];
  return `${lines.filter((line, at) => line !== "" || lines[at - 1] !== "").join("\n")}\n`;
}

function shownModels(models: readonly string[]): string {
  if (models.length === 0) return "none known by name: write a ModelRoute (start with --export)";
  return models.length > 5 ? `${models.slice(0, 5).join(", ")} and ${models.length - 5} more` : models.join(", ");
}

function providerText(terminal: Terminal, provider: DemoProvider): string {
  return `${terminal.style("bold", "The demo provider")} speaks OpenAI's Chat Completions format on ${provider.endpoint}\nCtrl-C stops it.\n`;
}
