/**
 * What resources say of each other: that names exist, that nothing is said twice, and that nobody has to guess which of two holds.
 */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Consumer, Identity } from "../gen/outrigger/policy/v1/consumer_pb.ts";
import type { ModelRoute } from "../gen/outrigger/policy/v1/model_route_pb.ts";
import { isPattern } from "../pattern.ts";
import { closest } from "./closest.ts";
import {
  fullNameOf,
  groupResources,
  type KindName,
  kindOf,
  listResources,
  nameOf,
  namespaceOf,
  type Resource,
  type Resources,
} from "./kinds.ts";
import type { ProblemId } from "./problem.ts";
import { shown } from "./secrecy.ts";
import { indexUsers } from "./users.ts";

/** Something that does not fit with the rest. */
export interface Conflict {
  readonly id: ProblemId;
  readonly resource: Resource;
  readonly field: string;
  readonly message: string;
  readonly hint: string;
}

/**
 * Finds all conflicts in a set. `broken` are resources with errors of their own, as far as they could be read: names may lead to them,
 * and the names that they give are looked up too, but nothing else is concluded from what they may have lost. `whole` says whether
 * every resource is in the set or among `broken`; if not, a name that is not found proves nothing.
 */
export function findConflicts(resources: Resources, broken: readonly Resource[], whole: boolean): Conflict[] {
  return [
    ...(whole ? danglingReferences(groupResources([...listResources(resources), ...broken])) : []),
    ...contradictions(resources),
    ...ambiguousRoutes(resources),
    ...duplicateIdentities(resources.consumers),
    ...duplicatePrices(resources),
  ];
}

/** The consumers of a route's namespace that may use it. */
export function consumersOf(route: ModelRoute, consumers: readonly Consumer[]): Consumer[] {
  const named = route.spec?.match?.consumers ?? [];
  return consumers.filter((consumer) => {
    if (namespaceOf(consumer) !== namespaceOf(route)) return false;
    const routes = consumer.spec?.routes ?? [];
    return (named.length === 0 || named.includes(nameOf(consumer))) && (routes.length === 0 || routes.includes(nameOf(route)));
  });
}

function danglingReferences(resources: Resources): Conflict[] {
  const names = new Map<string, Set<string>>();
  const namesIn = (kind: KindName, namespace: string): Set<string> => {
    const key = `${kind} ${namespace}`;
    const found = names.get(key);
    if (found !== undefined) return found;
    const fresh = new Set<string>();
    names.set(key, fresh);
    return fresh;
  };
  for (const list of [resources.providers, resources.routes, resources.consumers]) {
    for (const resource of list) namesIn(kindOf(resource), namespaceOf(resource)).add(nameOf(resource));
  }

  const conflicts: Conflict[] = [];
  const check = (resource: Resource, field: string, kind: KindName, name: string): void => {
    const known = namesIn(kind, namespaceOf(resource));
    if (name === "" || known.has(name)) return;
    const meant = closest(name, known);
    const message = `There is no ${kind} ${shown(name)} in namespace ${namespaceOf(resource)}.`;
    const hint = meant === undefined ? (known.size === 0 ? `Add the ${kind}.` : `Known: ${firstOf(known)}.`) : `Did you mean ${meant}?`;
    conflicts.push({ id: "policy/unknown-reference", resource, field, message, hint });
  };
  for (const route of resources.routes) {
    for (const [index, target] of (route.spec?.targets ?? []).entries())
      check(route, `spec.targets[${index}].provider`, "Provider", target.provider);
    for (const [index, name] of (route.spec?.match?.consumers ?? []).entries())
      check(route, `spec.match.consumers[${index}]`, "Consumer", name);
  }
  for (const consumer of resources.consumers) {
    for (const [index, name] of (consumer.spec?.routes ?? []).entries()) check(consumer, `spec.routes[${index}]`, "ModelRoute", name);
  }
  for (const grant of resources.grants) {
    // A pattern that fits nothing yet is how a grant is written ahead of what it grants; a name that leads nowhere is a slip.
    for (const [index, name] of (grant.spec?.routes ?? []).entries())
      if (!isPattern(name)) check(grant, `spec.routes[${index}]`, "ModelRoute", name);
    for (const [index, name] of (grant.spec?.consumers ?? []).entries())
      if (!isPattern(name)) check(grant, `spec.consumers[${index}]`, "Consumer", name);
  }
  return conflicts;
}

/** Routes that name a consumer which, by its own list of routes, may not use them. */
function contradictions(resources: Resources): Conflict[] {
  const consumers = new Map(resources.consumers.map((consumer) => [fullNameOf(consumer), consumer]));
  return resources.routes.flatMap((route) =>
    (route.spec?.match?.consumers ?? []).flatMap((name, index): Conflict[] => {
      const routes = consumers.get(`${namespaceOf(route)}/${name}`)?.spec?.routes ?? [];
      if (routes.length === 0 || routes.includes(nameOf(route))) return [];
      const message = `This route is for consumer ${name}, whose own list of routes leaves it out.`;
      const hint = `Add ${nameOf(route)} to spec.routes of the consumer, or remove the consumer here.`;
      return [{ id: "policy/contradiction", resource: route, field: `spec.match.consumers[${index}]`, message, hint }];
    }),
  );
}

/** Two routes for the same model name, or the same pattern, between which a consumer's call could not choose. */
function ambiguousRoutes(resources: Resources): Conflict[] {
  const conflicts: Conflict[] = [];
  const claims = new Map<string, Claims>();
  const usersOf = indexUsers(resources.consumers);
  const inhabited = new Set(resources.consumers.map(namespaceOf));
  /** Names of those who may use a route; in a namespace without consumers, whoever is added later counts. */
  const claimantsOf = (route: ModelRoute): readonly string[] | "anybody" => {
    if (inhabited.has(namespaceOf(route))) return usersOf(route).map(nameOf);
    const named = route.spec?.match?.consumers ?? [];
    return named.length === 0 ? "anybody" : named;
  };
  for (const route of resources.routes) {
    const told = new Set<string>();
    for (const [index, model] of (route.spec?.match?.models ?? []).entries()) {
      const key = `${namespaceOf(route)} ${model}`;
      if (told.has(key)) continue;
      told.add(key);
      let claim = claims.get(key);
      if (claim === undefined) {
        claim = new Claims();
        claims.set(key, claim);
      }
      for (const { other, shared } of claim.add(route, claimantsOf(route))) {
        const message = `Both this route and ${fullNameOf(other)} answer to ${shown(model)} for ${shared}.`;
        const hint = "Give the two routes different consumers, or remove the name from one of them.";
        conflicts.push({ id: "policy/ambiguous-route", resource: route, field: `spec.match.models[${index}]`, message, hint });
      }
    }
  }
  return conflicts;
}

/**
 * The routes that answer to one model name. Those that share a user are found by the user: comparing each with each would take seconds
 * where hundreds of teams have a route of their own for the same name.
 */
class Claims {
  readonly #routes: { readonly route: ModelRoute; readonly claimants: ReadonlySet<string> | "anybody" }[] = [];
  /** Where in the list routes stand that somebody may use, by who; and those that anybody may. */
  readonly #byUser = new Map<string, number[]>();
  readonly #open: number[] = [];

  /** Adds a route. Returns those before it, in order, that share a user with it, and whom, in words. */
  add(route: ModelRoute, claimants: readonly string[] | "anybody"): { readonly other: ModelRoute; readonly shared: string }[] {
    const own = claimants === "anybody" ? claimants : new Set(claimants);
    const met = new Set(own === "anybody" ? this.#routes.keys() : this.#open);
    if (own !== "anybody") for (const user of own) for (const at of this.#byUser.get(user) ?? []) met.add(at);
    const rivals = [...met].sort((a, b) => a - b).flatMap((at) => this.#routes[at] ?? []);
    const at = this.#routes.length;
    this.#routes.push({ route, claimants: own });
    if (own === "anybody") this.#open.push(at);
    else {
      for (const user of own) {
        const listed = this.#byUser.get(user);
        if (listed === undefined) this.#byUser.set(user, [at]);
        else listed.push(at);
      }
    }
    return rivals.map(({ route: other, claimants: others }) => ({
      other,
      shared:
        own === "anybody" || others === "anybody" ? "every consumer" : `consumer ${firstOf([...own].filter((user) => others.has(user)))}`,
    }));
  }
}

/** Credentials that two consumers claim. A sidecar sees the credential before it knows any namespace, so namespaces do not matter. */
function duplicateIdentities(consumers: readonly Consumer[]): Conflict[] {
  const conflicts: Conflict[] = [];
  const holders = new Map<string, Consumer>();
  for (const consumer of consumers) {
    for (const [index, identity] of (consumer.spec?.identities ?? []).entries()) {
      const key = keyOf(identity);
      if (key === undefined) continue;
      const holder = holders.get(key);
      if (holder === undefined) {
        holders.set(key, consumer);
        continue;
      }
      const who = holder === consumer ? "this consumer already" : fullNameOf(holder);
      conflicts.push(
        identity.kind.case === "anonymous"
          ? {
              id: "policy/duplicate-anonymous",
              resource: consumer,
              field: `spec.identities[${index}].anonymous`,
              message: `Callers without a credential are ${who}.`,
              hint: "Only one consumer can stand for them: remove one of the two.",
            }
          : {
              id: "policy/duplicate-api-key",
              resource: consumer,
              field: `spec.identities[${index}].api_key.sha256`,
              message: `The same API key identifies ${who}.`,
              hint: "Give each consumer a key of its own.",
            },
      );
    }
  }
  return conflicts;
}

function keyOf(identity: Identity): string | undefined {
  switch (identity.kind.case) {
    case "apiKey":
      return `key ${identity.kind.value.sha256}`;
    case "anonymous":
      return "anonymous";
    default:
      return undefined;
  }
}

/** Two prices for the same thing from the same moment on. */
function duplicatePrices(resources: Resources): Conflict[] {
  const conflicts: Conflict[] = [];
  const rows = new Map<string, string>();
  for (const book of resources.priceBooks) {
    for (const [index, row] of (book.spec?.rows ?? []).entries()) {
      const from = row.from === undefined ? "always" : timestampMs(row.from);
      const key = JSON.stringify([namespaceOf(book), row.provider, row.model, from]);
      const field = `spec.rows[${index}]`;
      const earlier = rows.get(key);
      if (earlier === undefined) rows.set(key, `${fullNameOf(book)} ${field}`);
      else {
        const message = `The same provider, model and date have a price already, in ${earlier}.`;
        conflicts.push({
          id: "policy/duplicate-price",
          resource: book,
          field,
          message,
          hint: "Keep one of the two, or give one a later date.",
        });
      }
    }
  }
  return conflicts;
}

/** The first names of a list, so that a message stays one. */
function firstOf(names: Iterable<string>): string {
  const sorted = [...names].sort();
  const most = 8;
  return sorted.length > most ? `${sorted.slice(0, most).join(", ")} and ${sorted.length - most} more` : sorted.join(", ");
}
