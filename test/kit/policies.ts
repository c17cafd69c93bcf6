/** Policies drawn at random: consistent ones, with grants, and changes to them that one account must not notice. */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import type { Account } from "../../control/scope.ts";
import { type Consumer, ConsumerSchema } from "../../proto/gen/outrigger/policy/v1/consumer_pb.ts";
import { type ModelRoute, ModelRouteSchema } from "../../proto/gen/outrigger/policy/v1/model_route_pb.ts";
import { PriceBookSchema } from "../../proto/gen/outrigger/policy/v1/price_book_pb.ts";
import { ProviderSchema } from "../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import { SidecarGrantSchema } from "../../proto/gen/outrigger/policy/v1/sidecar_grant_pb.ts";
import { findConflicts } from "../../proto/resources/consistency.ts";
import { apiVersion, groupResources, nameOf, namespaceOf, type Resource, type Resources } from "../../proto/resources/kinds.ts";

const namespaces = ["red", "blue"];
const providerNames = ["p0", "p1", "p2"];
const routeNames = ["r0", "r1", "s0", "s1"];
const consumerNames = ["c0", "c1", "d0", "d1"];
const accounts = ["chat", "chat-eu", "batch"];

/** An account that a sidecar may run as. */
export const anyAccount: fc.Arbitrary<Account> = fc.record({
  namespace: fc.constantFrom(...namespaces),
  account: fc.constantFrom(...accounts),
});

const some = <T>(items: readonly T[], minLength = 0) => fc.subarray([...items], { minLength });
const inNamespace = fc.constantFrom(...namespaces);

/** All providers of both namespaces, so that no target dangles. */
const anyProviders = fc
  .array(fc.nat(3), { minLength: 6, maxLength: 6 })
  .map((keys) => keys.map((key, at) => providerOf(namespaces[at % 2] ?? "", providerNames[Math.floor(at / 2)] ?? "", key)));

const anyRoute = fc
  .record({
    namespace: inNamespace,
    name: fc.constantFrom(...routeNames),
    shared: some(["m0", "m*", "*"]),
    providers: some(providerNames, 1),
    consumers: fc.oneof({ weight: 2, arbitrary: fc.constant<string[]>([]) }, { weight: 3, arbitrary: some(consumerNames) }),
  })
  .map(({ namespace, name, shared, providers, consumers }) =>
    create(ModelRouteSchema, {
      apiVersion,
      kind: "ModelRoute",
      metadata: { name, namespace },
      spec: { match: { models: [name, ...shared], consumers }, targets: providers.map((provider) => ({ provider, model: name })) },
    }),
  );

const anyConsumer = fc
  .record({
    namespace: inNamespace,
    name: fc.constantFrom(...consumerNames),
    routes: fc.oneof(fc.constant<string[]>([]), some(routeNames)),
    team: fc.constantFrom("", "x"),
  })
  .map(({ namespace, name, routes, team }) => consumerOf(namespace, name, routes, team));

const anyBook = fc
  .record({ namespace: inNamespace, name: fc.constantFrom("b0", "b1"), providers: some(["", ...providerNames], 1) })
  .map(({ namespace, name, providers }) =>
    create(PriceBookSchema, {
      apiVersion,
      kind: "PriceBook",
      metadata: { name, namespace },
      spec: { currency: "EUR", rows: providers.map((provider) => ({ provider, model: `${name}*`, input: 1n, output: 2n })) },
    }),
  );

const anyGrant = fc
  .record({
    namespace: inNamespace,
    name: fc.constantFrom("g0", "g1", "g2"),
    account: fc.constantFrom("", "*", "chat", "chat*", "batch"),
    of: fc.constantFrom("", ...namespaces),
    routes: some(["r0", "r1", "r*", "s0", "*1", "*"], 1),
    consumers: fc.oneof(fc.constant<string[]>([]), some(["c0", "c*", "d1", "*1"])),
  })
  .map(({ namespace, name, account, of, routes, consumers }) =>
    create(SidecarGrantSchema, {
      apiVersion,
      kind: "SidecarGrant",
      metadata: { name, namespace },
      spec: { sidecars: [{ account, namespace: of }], routes, consumers },
    }),
  );

/** A policy without contradictions. */
export const anyPolicy: fc.Arbitrary<Resources> = fc
  .tuple(
    anyProviders,
    fc.array(anyRoute, { maxLength: 10 }),
    fc.array(anyConsumer, { maxLength: 10 }),
    fc.array(anyBook, { maxLength: 4 }),
    fc.array(anyGrant, { minLength: 1, maxLength: 6 }),
  )
  .map((lists) => mended(lists.flat()));

/** A provider; `key` is something about it that can differ. */
export function providerOf(namespace: string, name: string, key: number) {
  return create(ProviderSchema, {
    apiVersion,
    kind: "Provider",
    metadata: { name, namespace },
    spec: { dialect: { case: "openai", value: {} }, endpoint: `http://127.0.0.1:${8000 + key}/v1` },
  });
}

/** A consumer, known by a key of its own. */
export function consumerOf(namespace: string, name: string, routes: readonly string[], team: string) {
  const sha256 = Buffer.from(`${namespace}/${name}`).toString("hex").padEnd(64, "0");
  return create(ConsumerSchema, {
    apiVersion,
    kind: "Consumer",
    metadata: { name, namespace },
    spec: { identities: [{ kind: { case: "apiKey", value: { sha256 } } }], routes: [...routes], team },
  });
}

/** Keeps one of each name, and takes away what does not fit with the rest until all of it does. */
export function mended(list: readonly Resource[]): Resources {
  const keyOf = (resource: Resource): string => `${resource.$typeName} ${namespaceOf(resource)}/${nameOf(resource)}`;
  const unique = new Map(list.map((resource) => [keyOf(resource), resource]));
  for (;;) {
    const resources = groupResources([...unique.values()]);
    const firsts = new Map(findConflicts(resources, [], true).map((conflict) => [keyOf(conflict.resource), conflict]));
    if (firsts.size === 0) return resources;
    for (const [key, { resource, field }] of firsts) {
      const smaller = withoutItem(resource, field);
      if (smaller === undefined) unique.delete(key);
      else unique.set(key, smaller);
    }
  }
}

/** A resource without the item of a list that a field names; undefined if the list must have one. */
function withoutItem(resource: Resource, field: string): Resource | undefined {
  const at = Number(/\[(\d+)\]$/.exec(field)?.[1]);
  const others = <T>(items: readonly T[]): T[] => items.filter((_, index) => index !== at);
  if (resource.$typeName === "outrigger.policy.v1.Consumer" && resource.spec !== undefined && field.startsWith("spec.routes[")) {
    return { ...resource, spec: { ...resource.spec, routes: others(resource.spec.routes) } };
  }
  if (resource.$typeName !== "outrigger.policy.v1.ModelRoute" || resource.spec?.match === undefined) return undefined;
  const { match } = resource.spec;
  if (field.startsWith("spec.match.consumers[")) {
    return { ...resource, spec: { ...resource.spec, match: { ...match, consumers: others(match.consumers) } } };
  }
  if (!field.startsWith("spec.match.models[") || match.models.length < 2) return undefined;
  return { ...resource, spec: { ...resource.spec, match: { ...match, models: others(match.models) } } };
}

/** What an account reaches, worked out the slow way: every grant with every route and every consumer. Names are `namespace/name`. */
export interface Reach {
  readonly routes: ReadonlySet<string>;
  readonly consumers: ReadonlySet<string>;
  readonly providers: ReadonlySet<string>;
  /** Names of routes, consumers and namespaces that some grant for the account names, whether they exist or not. */
  namesRoute(namespace: string, name: string): boolean;
  namesConsumer(namespace: string, name: string): boolean;
  readonly namespaces: ReadonlySet<string>;
}

/** Works out what an account reaches. */
export function reachOf(resources: Resources, account: Account): Reach {
  const fits = (pattern: string, name: string): boolean =>
    new RegExp(`^${pattern.replaceAll(".", "\\.").replaceAll("*", ".*")}$`).test(name);
  const grants = resources.grants.filter((grant) => isFor(grant, account, fits));
  const routes = new Set<string>();
  const consumers = new Set<string>();
  const providers = new Set<string>();
  for (const grant of grants) {
    for (const route of resources.routes) {
      for (const consumer of resources.consumers) {
        const namespace = namespaceOf(grant);
        if (namespaceOf(route) !== namespace || namespaceOf(consumer) !== namespace) continue;
        if (!(grant.spec?.routes ?? []).some((pattern) => fits(pattern, nameOf(route)))) continue;
        const patterns = grant.spec?.consumers ?? [];
        if (patterns.length > 0 && !patterns.some((pattern) => fits(pattern, nameOf(consumer)))) continue;
        if (!mayUse(route, consumer)) continue;
        routes.add(`${namespace}/${nameOf(route)}`);
        consumers.add(`${namespace}/${nameOf(consumer)}`);
        for (const { provider } of route.spec?.targets ?? []) providers.add(`${namespace}/${provider}`);
      }
    }
  }
  return {
    routes,
    consumers,
    providers,
    namespaces: new Set(grants.map(namespaceOf)),
    namesRoute: (namespace, name) =>
      grants.some((grant) => namespaceOf(grant) === namespace && (grant.spec?.routes ?? []).some((pattern) => fits(pattern, name))),
    namesConsumer: (namespace, name) =>
      grants.some((grant) => {
        const patterns = grant.spec?.consumers ?? [];
        return namespaceOf(grant) === namespace && (patterns.length === 0 || patterns.some((pattern) => fits(pattern, name)));
      }),
  };
}

/** Whether a consumer's call may take a route. */
export function mayUse(route: ModelRoute, consumer: Consumer): boolean {
  const named = route.spec?.match?.consumers ?? [];
  const routes = consumer.spec?.routes ?? [];
  return (
    namespaceOf(route) === namespaceOf(consumer) &&
    (named.length === 0 || named.includes(nameOf(consumer))) &&
    (routes.length === 0 || routes.includes(nameOf(route)))
  );
}

function isFor(grant: Resources["grants"][number], account: Account, fits: (pattern: string, name: string) => boolean): boolean {
  return (grant.spec?.sidecars ?? []).some(
    (selector) =>
      (selector.namespace || namespaceOf(grant)) === account.namespace &&
      (selector.account === "" || fits(selector.account, account.account)),
  );
}

/** A change that leaves alone all that an account's grants name. Undefined if the policy has nothing that this sort of change could touch. */
export type OutsideChange = (resources: Resources, account: Account) => Resources | undefined;

/** Changes outside of an account's grants, of every sort. */
export const anyOutsideChange: fc.Arbitrary<{ readonly sort: string; readonly change: OutsideChange }> = fc
  .tuple(fc.constantFrom(...Object.keys(changes())), fc.nat(50), anyGrant)
  .map(([sort, pick, grant]) => ({
    sort,
    change: (resources, account) => changes()[sort]?.(resources, reachOf(resources, account), pick, grant, account),
  }));

type Change = (
  resources: Resources,
  reach: Reach,
  pick: number,
  grant: Resources["grants"][number],
  account: Account,
) => Resources | undefined;

function changes(): Readonly<Record<string, Change>> {
  const full = (resource: Resource): string => `${namespaceOf(resource)}/${nameOf(resource)}`;
  const one = <T>(items: readonly T[], pick: number): T | undefined => items[pick % Math.max(items.length, 1)];
  const swap = <T extends Resource>(list: readonly T[], old: T, fresh: T): T[] => list.map((item) => (item === old ? fresh : item));
  return {
    "a provider that is not reached changes": (resources, reach, pick) => {
      const old = one(
        resources.providers.filter((item) => !reach.providers.has(full(item))),
        pick,
      );
      return old && { ...resources, providers: swap(resources.providers, old, providerOf(namespaceOf(old), nameOf(old), 9)) };
    },
    "a provider that nobody uses comes": (resources, _, pick) => ({
      ...resources,
      providers: [providerOf(namespaces[pick % 2] ?? "red", "new", pick), ...resources.providers],
    }),
    "a route that no grant names changes what it means": (resources, reach, pick) => {
      const old = one(
        resources.routes.filter((item) => !reach.namesRoute(namespaceOf(item), nameOf(item))),
        pick,
      );
      if (old?.spec === undefined) return undefined;
      const spec = { ...old.spec, targets: old.spec.targets.map((target) => ({ ...target, model: "other", weight: 7 })) };
      return { ...resources, routes: swap(resources.routes, old, { ...old, spec }) };
    },
    "a route that no grant names goes": (resources, reach, pick) => {
      const old = one(
        resources.routes.filter((item) => !reach.namesRoute(namespaceOf(item), nameOf(item))),
        pick,
      );
      // Lists that name it alone would come to mean everything, and lists that name it and others must not dangle.
      if (old === undefined || resources.consumers.some(({ spec }) => spec?.routes.includes(nameOf(old)))) return undefined;
      return { ...resources, routes: resources.routes.filter((item) => item !== old) };
    },
    "a consumer's list gains a route that no grant names": (resources, reach, pick) => {
      const route = one(
        resources.routes.filter((item) => !reach.namesRoute(namespaceOf(item), nameOf(item))),
        pick,
      );
      const old = one(
        resources.consumers.filter((item) => route && namespaceOf(item) === namespaceOf(route) && (item.spec?.routes.length ?? 0) > 0),
        pick,
      );
      if (route === undefined || old?.spec === undefined) return undefined;
      const routes = [nameOf(route), ...old.spec.routes.filter((name) => name !== nameOf(route))];
      // What was there keeps its order; only the stranger is new.
      return { ...resources, consumers: swap(resources.consumers, old, { ...old, spec: { ...old.spec, routes } }) };
    },
    "a route's list gains a consumer that no grant names": (resources, reach, pick) => {
      const consumer = one(
        resources.consumers.filter((item) => !reach.namesConsumer(namespaceOf(item), nameOf(item))),
        pick,
      );
      const old = one(
        // One that the account has, if there is one: there a leak would show.
        resources.routes
          .filter((item) => consumer && namespaceOf(item) === namespaceOf(consumer) && (item.spec?.match?.consumers.length ?? 0) > 0)
          .filter((item, _, all) => reach.routes.has(full(item)) || !all.some((other) => reach.routes.has(full(other)))),
        pick,
      );
      if (consumer === undefined || old?.spec?.match === undefined) return undefined;
      const consumers = [nameOf(consumer), ...old.spec.match.consumers.filter((name) => name !== nameOf(consumer))];
      return {
        ...resources,
        routes: swap(resources.routes, old, { ...old, spec: { ...old.spec, match: { ...old.spec.match, consumers } } }),
      };
    },
    "a consumer that no grant names changes": (resources, reach, pick) => {
      const old = one(
        resources.consumers.filter((item) => !reach.namesConsumer(namespaceOf(item), nameOf(item))),
        pick,
      );
      return (
        old && {
          ...resources,
          consumers: swap(resources.consumers, old, consumerOf(namespaceOf(old), nameOf(old), old.spec?.routes ?? [], "changed")),
        }
      );
    },
    "a consumer that no grant names comes": (resources, reach, pick) => {
      const namespace = namespaces[pick % 2] ?? "red";
      return reach.namesConsumer(namespace, "new")
        ? undefined
        : { ...resources, consumers: [consumerOf(namespace, "new", [], ""), ...resources.consumers] };
    },
    "prices of a provider that is not reached come and go": (resources, reach, pick) => {
      const old = one(resources.priceBooks, pick);
      if (old?.spec === undefined) return undefined;
      const foreign = providerNames.find((name) => !reach.providers.has(`${namespaceOf(old)}/${name}`));
      if (foreign === undefined) return undefined;
      const kept = old.spec.rows.filter(({ provider }) => provider !== foreign);
      const row =
        create(PriceBookSchema, { spec: { rows: [{ provider: foreign, model: "dear", input: BigInt(pick), output: 1n }] } }).spec?.rows ??
        [];
      return { ...resources, priceBooks: swap(resources.priceBooks, old, { ...old, spec: { ...old.spec, rows: [...row, ...kept] } }) };
    },
    "a grant for others comes": (resources, _, __, grant, account) => {
      const foreign = { ...grant, metadata: { ...grant.metadata, name: "new" } } as typeof grant;
      const next = { ...resources, grants: [foreign, ...resources.grants] };
      return reachOf({ ...resources, grants: [foreign] }, account).namespaces.size > 0 ? undefined : next;
    },
    "a grant for others goes": (resources, _, pick, __, account) => {
      const old = one(
        resources.grants.filter((item) => reachOf({ ...resources, grants: [item] }, account).namespaces.size === 0),
        pick,
      );
      return old && { ...resources, grants: resources.grants.filter((item) => item !== old) };
    },
    "everything stands in another order": (resources) => ({
      providers: resources.providers.toReversed(),
      routes: resources.routes.toReversed(),
      consumers: resources.consumers.toReversed(),
      priceBooks: resources.priceBooks.toReversed(),
      grants: resources.grants.toReversed(),
    }),
    "annotations change": (resources, _, pick) => {
      const old = one(resources.routes, pick);
      if (old?.metadata === undefined) return undefined;
      return { ...resources, routes: swap(resources.routes, old, { ...old, metadata: { ...old.metadata, annotations: { note: "x" } } }) };
    },
  };
}
