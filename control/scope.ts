/**
 * Which part of all policy one sidecar gets: what its grants name, what that needs, and nothing else.
 *
 * Denied is the default. A grant names routes and, if it says so, consumers; with a route come its targets' providers and the consumers
 * who may use it, and what would name anything else is trimmed. What nobody may change unseen must not depend on the rest: whatever
 * happens outside of what an account's grants name, its part keeps the same bytes. And a part is never more than the whole: where trimming
 * a list would empty it, and so make it mean everybody, the resource is left out.
 */
import type { Consumer } from "../proto/gen/outrigger/policy/v1/consumer_pb.ts";
import type { ModelRoute } from "../proto/gen/outrigger/policy/v1/model_route_pb.ts";
import type { PriceBook } from "../proto/gen/outrigger/policy/v1/price_book_pb.ts";
import type { Provider } from "../proto/gen/outrigger/policy/v1/provider_pb.ts";
import type { SidecarGrant } from "../proto/gen/outrigger/policy/v1/sidecar_grant_pb.ts";
import { matcher } from "../proto/pattern.ts";
import { fullNameOf, groupResources, nameOf, namespaceOf, type Resource, type Resources } from "../proto/resources/kinds.ts";
import type { Problem } from "../proto/resources/problem.ts";
import { indexUsers, type UsersOf } from "../proto/resources/users.ts";

/** The account that a sidecar has proven to run as. */
export interface Account {
  readonly namespace: string;
  readonly account: string;
}

/** Policy, made ready to take many parts of. */
export interface ScopedPolicy {
  /** What an account's grants let it have. Parts of resources are new messages, whole resources those of the policy. */
  partOf(account: Account): Resources;
  /** All but the grants, for a sidecar that shares its process with control. */
  readonly whole: Resources;
  /** Grants of these namespaces that give nothing, since no consumer may use any of their routes. */
  emptyGrants(namespaces: ReadonlySet<string>): readonly SidecarGrant[];
}

/** What is told of a grant that gives nothing: whoever wrote it sees its sidecars refuse every call, and nothing that says why. */
export function emptyGrantProblem(grant: SidecarGrant): Problem {
  return {
    id: "policy/empty-grant",
    severity: "warning",
    kind: "SidecarGrant",
    name: fullNameOf(grant),
    field: "spec.routes",
    message: "No consumer may use a route of this grant, so its sidecars get nothing and refuse every call.",
    hint: "Add a Consumer that may use one, or a route for one.",
  };
}

/** Prepares policy that is consistent. */
export function scopePolicy(resources: Resources): ScopedPolicy {
  const namespaces = new Map<string, Namespace>();
  const namespaceFor = (resource: Resource): Namespace => {
    const name = namespaceOf(resource);
    const found = namespaces.get(name);
    if (found !== undefined) return found;
    const fresh = new Namespace();
    namespaces.set(name, fresh);
    return fresh;
  };
  for (const provider of resources.providers) namespaceFor(provider).providers.set(nameOf(provider), provider);
  const usersOf = indexUsers(resources.consumers);
  for (const route of resources.routes) namespaceFor(route).routes.push(route);
  for (const book of resources.priceBooks) namespaceFor(book).priceBooks.push(book);
  const grants = resources.grants.map((grant) => compileGrant(grant, namespaceFor(grant)));
  return {
    whole: { ...resources, grants: [] },
    emptyGrants: (namespaces) =>
      resources.grants.filter((grant, index) => {
        const compiled = grants[index];
        return (
          compiled !== undefined &&
          namespaces.has(namespaceOf(grant)) &&
          partOfNamespace(compiled.namespace, [compiled], usersOf).length === 0
        );
      }),
    partOf(account) {
      const fitting = new Map<Namespace, Grant[]>();
      for (const grant of grants) {
        if (grant.isFor(account)) fitting.set(grant.namespace, [...(fitting.get(grant.namespace) ?? []), grant]);
      }
      return groupResources([...fitting].flatMap(([namespace, granted]) => partOfNamespace(namespace, granted, usersOf)));
    },
  };
}

/** What one namespace's grants give of it. Names never lead out of their namespace, so each can be taken by itself. */
function partOfNamespace(namespace: Namespace, grants: readonly Grant[], usersOf: UsersOf): Resource[] {
  const routes = new Set<ModelRoute>();
  const consumers = new Set<Consumer>();
  for (const grant of grants) {
    for (const route of namespace.routes) {
      if (!grant.hasRoute(nameOf(route))) continue;
      for (const consumer of usersOf(route)) {
        if (!grant.hasConsumer(nameOf(consumer))) continue;
        // A route comes only with somebody who may use it: without, two routes for one name could not be told apart.
        routes.add(route);
        consumers.add(consumer);
      }
    }
  }
  if (routes.size === 0) return [];
  const routeNames = new Set([...routes].map(nameOf));
  const consumerNames = new Set([...consumers].map(nameOf));
  const providerNames = new Set([...routes].flatMap((route) => (route.spec?.targets ?? []).map(({ provider }) => provider)));
  return [
    ...[...providerNames].flatMap((name) => namespace.providers.get(name) ?? []),
    ...[...routes].map((route) => trimRoute(route, consumerNames)),
    ...[...consumers].map((consumer) => trimConsumer(consumer, routeNames)),
    ...namespace.priceBooks.flatMap((book) => trimPrices(book, providerNames) ?? []),
  ];
}

/** A route for those consumers alone. Whoever calls this knows that one of them may use it, so the list is not emptied. */
function trimRoute(route: ModelRoute, consumers: ReadonlySet<string>): ModelRoute {
  const match = route.spec?.match;
  if (route.spec === undefined || match === undefined || match.consumers.every((name) => consumers.has(name))) return route;
  return { ...route, spec: { ...route.spec, match: { ...match, consumers: match.consumers.filter((name) => consumers.has(name)) } } };
}

/** A consumer of those routes alone. It may use one of them, so the list is not emptied. */
function trimConsumer(consumer: Consumer, routes: ReadonlySet<string>): Consumer {
  const { spec } = consumer;
  if (spec === undefined || spec.routes.every((name) => routes.has(name))) return consumer;
  return { ...consumer, spec: { ...spec, routes: spec.routes.filter((name) => routes.has(name)) } };
}

/** The prices of those providers and of all; undefined if there is none, since a book without rows is no resource. */
function trimPrices(book: PriceBook, providers: ReadonlySet<string>): PriceBook | undefined {
  const { spec } = book;
  if (spec === undefined) return undefined;
  const rows = spec.rows.filter(({ provider }) => provider === "" || providers.has(provider));
  if (rows.length === 0) return undefined;
  return rows.length === spec.rows.length ? book : { ...book, spec: { ...spec, rows } };
}

interface Grant {
  readonly namespace: Namespace;
  isFor(account: Account): boolean;
  hasRoute(name: string): boolean;
  hasConsumer(name: string): boolean;
}

function compileGrant(grant: SidecarGrant, namespace: Namespace): Grant {
  const own = namespaceOf(grant);
  const selectors = (grant.spec?.sidecars ?? []).map((selector) => ({
    namespace: selector.namespace === "" ? own : selector.namespace,
    fits: selector.account === "" ? anything : matcher(selector.account),
  }));
  const consumers = grant.spec?.consumers ?? [];
  return {
    namespace,
    isFor: (account) => selectors.some((selector) => selector.namespace === account.namespace && selector.fits(account.account)),
    hasRoute: anyOf(grant.spec?.routes ?? []),
    hasConsumer: consumers.length === 0 ? anything : anyOf(consumers),
  };
}

function anyOf(patterns: readonly string[]): (name: string) => boolean {
  const names = new Set(patterns.filter((pattern) => !pattern.includes("*")));
  const matchers = patterns.filter((pattern) => pattern.includes("*")).map(matcher);
  return (name) => names.has(name) || matchers.some((fits) => fits(name));
}

const anything = (): boolean => true;

/** The resources of one namespace, by what they are looked up by. */
class Namespace {
  readonly providers = new Map<string, Provider>();
  readonly routes: ModelRoute[] = [];
  readonly priceBooks: PriceBook[] = [];
}
