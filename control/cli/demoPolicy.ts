/** The policy that `outrigger demo` runs: what was found on this machine, as the documents that a file would hold. */
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { apiVersion, groupResources, type KindName, type Resource, type Resources, schemaOf } from "../../proto/resources/kinds.ts";
import type { ProviderRow } from "../../sidecar/providers.ts";

/** What was found. */
export interface Found {
  /** The endpoint of the demo provider. */
  readonly demoEndpoint: string;
  /** The names of its models. */
  readonly demoModels: readonly string[];
  /** Rows of the provider table whose key is in the environment. */
  readonly keyed: readonly KeyedProvider[];
  /** Servers on this machine that answered, and the models that they listed. */
  readonly local: readonly LocalProvider[];
  /** Where calls for the model `smart` go, as provider and model; undefined leaves it to what was found. */
  readonly smart: { readonly provider: string; readonly model: string } | undefined;
}

/** A provider for which there is a key. */
export interface KeyedProvider {
  /** The row's name. */
  readonly row: string;
  readonly dialect: ProviderRow["dialect"];
  /** The environment variable that holds the key. */
  readonly keyVariable: string;
  /** Model names by which it can be recognised. */
  readonly modelPatterns: readonly string[];
}

/** A provider on this machine, which wants no key. */
export interface LocalProvider {
  /** The row's name. */
  readonly row: string;
  readonly models: readonly string[];
}

/** One resource as it stands in a file. */
export interface PolicyDocument {
  readonly apiVersion: typeof apiVersion;
  readonly kind: KindName;
  readonly metadata: { readonly name: string };
  readonly spec: { readonly [field: string]: JsonValue };
}

/** The documents, in the order in which a person would read them. */
export function demoPolicy(found: Found): PolicyDocument[] {
  const smart = found.smart ?? firstLocalModel(found.local) ?? { provider: "demo", model: "demo?ttft=120&gap=12" };
  return [
    document("Consumer", "anyone", { identities: [{ anonymous: {} }] }),
    document("Provider", "demo", {
      openai: { row: "compatible", developer_role: true },
      endpoint: found.demoEndpoint,
      // A timeout that demo:timeout shows before anyone loses patience.
      timeouts: { first_content: "20s", between_content: "10s" },
    }),
    // By name as well, so that whoever asks which models there are is told; the pattern takes those with settings.
    routeDocument("demo", [...found.demoModels, "demo*"], { provider: "demo" }),
    routeDocument("smart", ["smart"], { provider: smart.provider, model: smart.model }),
    document("PriceBook", "demo", {
      currency: "USD",
      // Invented, so that there is something to see: 0.15 and 0.60 dollars for a million tokens.
      rows: [{ provider: "demo", model: "*", input: "150000", cached_input: "75000", output: "600000" }],
    }),
    ...found.keyed.flatMap((provider) => keyedDocuments(provider, catchAllOf(found.keyed))),
    ...found.local.flatMap(localDocuments),
  ];
}

/** The documents as resources. They are ours, so one that cannot be read is a mistake of this file. */
export function readDocuments(documents: readonly PolicyDocument[]): Resources {
  return groupResources(documents.map((one) => fromJson(schemaOf(one.kind), one as unknown as JsonValue) as Resource));
}

/** The documents as a file for `outrigger run -f`. */
export async function writeYaml(documents: readonly PolicyDocument[]): Promise<string> {
  const { stringify } = await import("yaml");
  const head =
    "# What `outrigger demo` ran, for `outrigger run -f`. Keys stay in the environment: only the names of their variables are here.\n" +
    "# The provider named demo answers while the demo runs: `outrigger demo --provider-only --provider-port PORT` keeps it at one address.\n";
  return head + documents.map((one) => `---\n${stringify(one)}`).join("");
}

/**
 * The one keyed provider that gets all models nobody else is known for. With two such providers nobody could say which is meant, so
 * then there is none.
 */
function catchAllOf(keyed: readonly KeyedProvider[]): string | undefined {
  const without = keyed.filter((provider) => provider.modelPatterns.length === 0);
  return without.length === 1 ? without[0]?.row : undefined;
}

/** The patterns by which a keyed provider is reached. */
function patternsOf(provider: KeyedProvider, catchAll: string | undefined): readonly string[] {
  return provider.modelPatterns.length > 0 ? provider.modelPatterns : provider.row === catchAll ? ["*"] : [];
}

function keyedDocuments(provider: KeyedProvider, catchAll: string | undefined): PolicyDocument[] {
  const models = patternsOf(provider, catchAll);
  const documents = [
    document("Provider", provider.row, {
      [provider.dialect]: { row: provider.row },
      credential: { header: { secret: { env: provider.keyVariable } } },
    }),
  ];
  if (models.length > 0) {
    documents.push(routeDocument(provider.row, models, { provider: provider.row }));
  }
  return documents;
}

function localDocuments({ row, models }: LocalProvider): PolicyDocument[] {
  const documents = [document("Provider", row, { openai: { row } })];
  if (models.length > 0) documents.push(routeDocument(row, models, { provider: row }));
  return documents;
}

/**
 * A route that leaves out what a model cannot obey, and says so. Refusing is the better default for a platform; someone who tries a
 * coding agent in the first minutes, which asks for everything, should get an answer.
 */
function routeDocument(
  name: string,
  models: readonly string[],
  target: { readonly provider: string; readonly model?: string },
): PolicyDocument {
  return document("ModelRoute", name, { match: { models: [...models] }, targets: [target], unsupported_params: "UNSUPPORTED_PARAMS_DROP" });
}

function firstLocalModel(local: readonly LocalProvider[]): { provider: string; model: string } | undefined {
  for (const { row, models } of local) if (models[0] !== undefined) return { provider: row, model: models[0] };
  return undefined;
}

function document(kind: KindName, name: string, spec: PolicyDocument["spec"]): PolicyDocument {
  return { apiVersion, kind, metadata: { name }, spec };
}
