/**
 * What `outrigger check` finds: everything that would refuse a policy, and what is allowed and probably not meant.
 *
 * Each finding has a stable name, a place and a hint. Errors are those that a sidecar would refuse the policy for, save what only the
 * sidecar's own machine knows: whether the environment variables and files of its secrets are there.
 */
import type { Duration } from "@bufbuild/protobuf/wkt";
import type { ProviderSpec } from "../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import { isPattern, matcher } from "../../proto/pattern.ts";
import { closest } from "../../proto/resources/closest.ts";
import { consumersOf } from "../../proto/resources/consistency.ts";
import { compareProblems } from "../../proto/resources/problem.ts";
import {
  fullNameOf,
  kindOf,
  nameOf,
  namespaceOf,
  type Problem,
  type ReadResources,
  type Resource,
  type Resources,
} from "../../proto/resources.ts";
import { endpointOf, type ProviderRow, providerRows, rowNameOf } from "../../sidecar/providers.ts";
import { emptyGrantProblem, scopePolicy } from "../scope.ts";

/** What is checked: what `readResources` or a file store read. */
export type Checked = Pick<ReadResources, "resources" | "problems" | "locate">;

/** What is known of where the policy will run. */
export interface CheckOptions {
  /** Whether others than this machine can reach the sidecar's doors. */
  readonly exposed: boolean;
}

/** Something found by a check. */
export type Finding = Problem;

/** Finds everything, in the order of files, lines and columns. */
export function check({ resources, problems, locate }: Checked, { exposed }: CheckOptions): Finding[] {
  const findings: Finding[] = [...problems];
  const tell: Tell = (id, severity, resource, field, message, hint) => {
    const [kind, name] = [kindOf(resource), fullNameOf(resource)];
    findings.push({ id, severity, kind, name, field, message, hint, ...locate(kind, name, field) });
  };
  checkProviders(resources, tell);
  // With errors around, resources are missing from the set, and what leads nowhere may only seem to.
  if (!problems.some(({ severity }) => severity === "error")) {
    checkUse(resources, tell);
    checkConsumers(resources, exposed, tell);
    checkPrices(resources, tell);
    for (const grant of scopePolicy(resources).emptyGrants(new Set(resources.grants.map(namespaceOf)))) {
      const found = emptyGrantProblem(grant);
      tell(found.id, found.severity, grant, found.field, found.message, found.hint);
    }
  }
  return findings.sort(compareProblems);
}

type Tell = (id: Problem["id"], severity: Problem["severity"], resource: Resource, field: string, message: string, hint: string) => void;

function checkProviders({ providers }: Resources, tell: Tell): void {
  for (const provider of providers) {
    const { spec } = provider;
    if (spec?.dialect.case === undefined) continue;
    const rowName = rowNameOf(spec.dialect);
    const row = Object.hasOwn(providerRows, rowName) ? providerRows[rowName] : undefined;
    if (row === undefined || row.dialect !== spec.dialect.case) {
      const known = Object.keys(providerRows).filter((name) => providerRows[name]?.dialect === spec.dialect.case);
      const meant = closest(rowName, known);
      const message = `There is no row ${JSON.stringify(rowName)} in the provider table that speaks ${spec.dialect.case}.`;
      const hint = meant === undefined ? `Known: ${known.join(", ")}.` : `Did you mean ${meant}?`;
      tell("policy/unknown-row", "error", provider, `spec.${spec.dialect.case}.row`, message, hint);
      continue;
    }
    const endpoint = endpointOf(row, spec.endpoint, "region" in spec.dialect.value ? spec.dialect.value.region : "");
    if (endpoint === "" && row.endpoint !== "") {
      const message = `The row ${rowName} has an address in every region, and no region is given.`;
      tell("policy/no-region", "error", provider, `spec.${spec.dialect.case}.region`, message, "Give one such as eu-central-1.");
      continue;
    }
    if (!URL.canParse(endpoint)) {
      const message = endpoint === "" ? `The row ${rowName} has no address of its own.` : "The endpoint is no address.";
      tell("policy/no-endpoint", "error", provider, "spec.endpoint", message, "Give one such as http://127.0.0.1:8000/v1.");
      continue;
    }
    const url = new URL(endpoint);
    if (url.protocol === "http:" && !isNear(url.hostname)) {
      const carried = spec.credential === undefined ? "Prompts and answers go" : "Prompts, answers and the credential go";
      const message = `${carried} to ${url.hostname} without encryption.`;
      tell("policy/plain-http", "warning", provider, "spec.endpoint", message, "Use https, or a host of your own network.");
    }
    checkIdentity(spec, row, (field, message, hint) => tell("policy/missing-field", "error", provider, field, message, hint));
    checkCredential(spec.credential !== undefined, spec.endpoint === "", row, (message, hint) =>
      tell("policy/no-credential", "warning", provider, "spec.credential", message, hint),
    );
    const { firstContent, call } = spec.timeouts ?? {};
    if (firstContent !== undefined && call !== undefined && nanoseconds(firstContent) > nanoseconds(call)) {
      const message = "The first content may take longer than the whole call, so this limit never acts.";
      tell(
        "policy/timeout-order",
        "warning",
        provider,
        "spec.timeouts.first_content",
        message,
        "Make it shorter than call, or leave it out.",
      );
    }
  }
}

/** What a credential is for stands in the row, or must be said. */
function checkIdentity(
  { credential, dialect }: ProviderSpec,
  row: ProviderRow,
  tell: (field: string, message: string, hint: string) => void,
): void {
  const form = credential?.form;
  if (form?.case === "aws") {
    const region = form.value.region || (dialect.value !== undefined && "region" in dialect.value ? dialect.value.region : "");
    if (!form.value.service && row.signingService === undefined)
      tell("spec.credential.aws.service", "The provider's row names no service to sign for.", "Name one, such as execute-api.");
    if (region === "") tell("spec.credential.aws.region", "A signature needs a region.", "Give one such as eu-central-1.");
  }
  if (form?.case === "entra" && !form.value.scope && row.entraScope === undefined)
    tell(
      "spec.credential.entra.scope",
      "The provider's row names no scope to ask a token for.",
      "Name one, such as api://my-app/.default.",
    );
}

/** A provider at the row's own address, whose users have a key by custom, wants one. */
function checkCredential(given: boolean, atOwnAddress: boolean, row: ProviderRow, tell: (message: string, hint: string) => void): void {
  if (given || !atOwnAddress || row.keyVariable === undefined) return;
  tell(`${row.endpoint} wants a key, and none is given.`, `Add credential: {header: {secret: {env: ${row.keyVariable}}}}.`);
}

/** Providers, routes and consumers that nothing leads to. */
function checkUse({ providers, routes, consumers }: Resources, tell: Tell): void {
  const targeted = new Set(
    routes.flatMap((route) => (route.spec?.targets ?? []).map(({ provider }) => `${namespaceOf(route)}/${provider}`)),
  );
  for (const provider of providers) {
    if (targeted.has(fullNameOf(provider))) continue;
    tell(
      "policy/unused-provider",
      "warning",
      provider,
      "metadata.name",
      "No route goes to this provider.",
      "Add a route, or remove the provider.",
    );
  }
  // By namespace, and no further than the first that fits: control asks this of every change.
  const [consumersIn, routesIn] = [Map.groupBy(consumers, namespaceOf), Map.groupBy(routes, namespaceOf)];
  const barren = new Set<string>();
  for (const route of routes) {
    const namespace = namespaceOf(route);
    if (!consumersIn.has(namespace)) {
      if (barren.has(namespace)) continue;
      barren.add(namespace);
      const message = `Namespace ${namespace} has routes and no consumer, so every call is refused.`;
      tell("policy/no-consumer", "warning", route, "metadata.name", message, "Add a Consumer.");
    } else if (!(consumersIn.get(namespace) ?? []).some((consumer) => consumersOf(route, [consumer]).length > 0)) {
      const hint = "Name the route in a consumer's spec.routes, or remove it.";
      tell("policy/unreachable-route", "warning", route, "spec.match.consumers", "No consumer may use this route.", hint);
    }
  }
  for (const consumer of consumers) {
    if ((routesIn.get(namespaceOf(consumer)) ?? []).some((route) => consumersOf(route, [consumer]).length > 0)) continue;
    const message = `There is no route in namespace ${namespaceOf(consumer)} that this consumer may use.`;
    tell("policy/idle-consumer", "warning", consumer, "spec.routes", message, "Add a ModelRoute, or name one in spec.routes.");
  }
}

function checkConsumers({ consumers }: Resources, exposed: boolean, tell: Tell): void {
  const hasKeys = consumers.some((consumer) => consumer.spec?.identities.some(({ kind }) => kind.case === "apiKey"));
  for (const consumer of consumers) {
    const index = consumer.spec?.identities.findIndex(({ kind }) => kind.case === "anonymous") ?? -1;
    if (index < 0) continue;
    const field = `spec.identities[${index}].anonymous`;
    if (exposed) {
      const message = `Whoever reaches this sidecar over the network is ${nameOf(consumer)}, without any credential.`;
      tell("policy/anonymous-consumer", "warning", consumer, field, message, "Listen on loopback only, or give callers keys.");
    } else if (hasKeys) {
      const message = `Callers with a wrong or revoked key are not refused: they are ${nameOf(consumer)}.`;
      tell(
        "policy/anonymous-consumer",
        "warning",
        consumer,
        field,
        message,
        "Give this consumer a key too, if keys are to mean something.",
      );
    }
  }
}

function checkPrices({ priceBooks, providers, routes }: Resources, tell: Tell): void {
  const known = new Set(providers.map(fullNameOf));
  const rowsIn = new Map<string, { readonly provider: string; readonly fits: (model: string) => boolean }[]>();
  for (const book of priceBooks) {
    const rows = rowsIn.get(namespaceOf(book)) ?? [];
    rowsIn.set(namespaceOf(book), rows);
    for (const [index, row] of (book.spec?.rows ?? []).entries()) {
      rows.push({ provider: row.provider, fits: matcher(row.model) });
      if (row.provider === "" || known.has(`${namespaceOf(book)}/${row.provider}`)) continue;
      const message = `There is no Provider ${JSON.stringify(row.provider)} in namespace ${namespaceOf(book)}, so this price never holds.`;
      tell(
        "policy/unused-price",
        "warning",
        book,
        `spec.rows[${index}].provider`,
        message,
        "Correct the name, or leave it out for all providers.",
      );
    }
  }
  for (const route of routes) {
    const rows = rowsIn.get(namespaceOf(route));
    // Whoever has no price book does not want prices.
    if (rows === undefined) continue;
    for (const [index, target] of (route.spec?.targets ?? []).entries()) {
      // A target without a model passes on the caller's, which is known where the route names it exactly.
      const models = target.model === "" ? (route.spec?.match?.models ?? []).filter((model) => !isPattern(model)) : [target.model];
      const unpriced = models.filter(
        (model) => !rows.some((row) => (row.provider === "" || row.provider === target.provider) && row.fits(model)),
      );
      if (unpriced.length === 0) continue;
      const message = `There is no price for ${unpriced.join(", ")} at ${target.provider}: calls there have no cost in records and budgets.`;
      tell("policy/unpriced-model", "warning", route, `spec.targets[${index}]`, message, "Add a row to a PriceBook.");
    }
  }
}

/** Whether a host is this machine or one that only an inner network knows. Also links into a pod or a cluster. */
function isNear(host: string): boolean {
  const name = host.toLowerCase().replace(/\.$/, "");
  if (name.startsWith("[")) return name === "[::1]" || /^\[(fc|fd|fe[89ab])/.test(name) || /^\[::ffff:(7f|a[0-9a-f]{2}:|c0a8:)/.test(name);
  if (/^[0-9.]+$/.test(name)) return /^(127|10)\.|^192\.168\.|^172\.(1[6-9]|2[0-9]|3[01])\.|^169\.254\./.test(name);
  return !name.includes(".") || /\.(localhost|local|internal|svc|lan|home\.arpa|cluster\.local)$/.test(name);
}

function nanoseconds({ seconds, nanos }: Duration): bigint {
  return seconds * 1_000_000_000n + BigInt(nanos);
}
