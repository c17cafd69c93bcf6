/**
 * What must hold of every part of every policy, and that these checks can fail: each is shown to catch a projection with a mistake in it.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Account, type ScopedPolicy, scopePolicy } from "../../control/scope.ts";
import { sha256 } from "../../control/sha256.ts";
import { findConflicts } from "../../proto/resources/consistency.ts";
import { fullNameOf, listResources, nameOf, type Resources } from "../../proto/resources/kinds.ts";
import { snapshotOf } from "../../proto/snapshot.ts";
import { anyAccount, anyOutsideChange, anyPolicy, mayUse, reachOf } from "../kit/policies.ts";

type Take = (resources: Resources, account: Account) => Resources;

const take: Take = (resources, account) => scopePolicy(resources).partOf(account);
const rootBy = (take: Take, resources: Resources, account: Account): string => snapshotOf(take(resources, account), sha256).root;

/** Whatever happens outside of an account's grants, its root stays. */
function nonInterference(take: Take) {
  return fc.property(anyPolicy, anyAccount, anyOutsideChange, (policy, account, { change }) => {
    const changed = change(policy, account);
    fc.pre(changed !== undefined);
    expect(rootBy(take, changed, account)).toBe(rootBy(take, policy, account));
  });
}

/** A part is in order by itself, has what is reached and nothing else, and lets nobody do what the whole would not. */
function soundness(take: Take) {
  return fc.property(anyPolicy, anyAccount, (policy, account) => {
    const part = take(policy, account);
    const reach = reachOf(policy, account);
    expect(findConflicts(part, [], true)).toEqual([]);
    expect(part.grants).toEqual([]);
    expect(new Set(part.routes.map(fullNameOf))).toEqual(reach.routes);
    expect(new Set(part.consumers.map(fullNameOf))).toEqual(reach.consumers);
    expect(new Set(part.providers.map(fullNameOf))).toEqual(reach.providers);
    for (const book of part.priceBooks) {
      expect(book.spec?.rows.length).toBeGreaterThan(0);
      for (const { provider } of book.spec?.rows ?? []) {
        expect(provider === "" || reach.providers.has(`${book.metadata?.namespace}/${provider}`)).toBe(true);
      }
    }
    for (const route of part.routes) {
      for (const consumer of part.consumers) {
        if (!mayUse(route, consumer)) continue;
        const wholeRoute = policy.routes.find((item) => fullNameOf(item) === fullNameOf(route));
        const wholeConsumer = policy.consumers.find((item) => fullNameOf(item) === fullNameOf(consumer));
        expect(wholeRoute !== undefined && wholeConsumer !== undefined && mayUse(wholeRoute, wholeConsumer)).toBe(true);
      }
    }
  });
}

/** Two controls that read the same policy, in whatever order, have the same roots for everybody. */
function sameRoots() {
  return fc.property(anyPolicy, fc.infiniteStream(fc.nat()), (policy, numbers) => {
    const shuffled: Resources = {
      providers: shuffle(policy.providers, numbers),
      routes: shuffle(policy.routes, numbers),
      consumers: shuffle(policy.consumers, numbers),
      priceBooks: shuffle(policy.priceBooks, numbers),
      grants: shuffle(policy.grants, numbers),
    };
    const [one, other]: [ScopedPolicy, ScopedPolicy] = [scopePolicy(policy), scopePolicy(structuredClone(shuffled))];
    for (const namespace of ["red", "blue"]) {
      for (const account of ["chat", "batch"]) {
        const roots = [one, other].map((scoped) => snapshotOf(scoped.partOf({ namespace, account }), sha256).root);
        expect(roots[0]).toBe(roots[1]);
      }
    }
  });
}

function shuffle<T>(items: readonly T[], numbers: Iterator<number>): T[] {
  const left = [...items];
  const shuffled: T[] = [];
  while (left.length > 0) shuffled.push(...left.splice((numbers.next().value ?? 0) % left.length, 1));
  return shuffled;
}

/** Projections with one mistake each, and the property that must notice it. */
const planted: readonly { readonly mistake: string; readonly take: Take; readonly by: "interference" | "soundness" }[] = [
  {
    mistake: "a consumer's list keeps names of routes that are not granted",
    take: (resources, account) => untrimmed(resources, account, "consumers"),
    by: "interference",
  },
  {
    mistake: "a route's list keeps names of consumers that are not granted",
    take: (resources, account) => untrimmed(resources, account, "routes"),
    by: "interference",
  },
  {
    mistake: "prices of other teams' providers come along",
    take: (resources, account) => untrimmed(resources, account, "priceBooks"),
    by: "interference",
  },
  {
    mistake: "the order of what others have shows",
    take: (resources, account) => {
      const part = take(resources, account);
      // A number that counts others' resources before one's own, as an index or a shared serial would.
      const places = new Map(listResources(resources).map((resource, at) => [fullNameOf(resource), at]));
      const routes = part.routes.map((route) => ({
        ...route,
        metadata: { ...route.metadata, labels: { place: String(places.get(fullNameOf(route))) } },
      }));
      return { ...part, routes: routes as Resources["routes"][number][] };
    },
    by: "interference",
  },
  {
    mistake: "how many resources there are shows",
    take: (resources, account) => {
      const part = take(resources, account);
      const count = { count: String(listResources(resources).length) };
      return {
        ...part,
        providers: part.providers.map((provider) => ({ ...provider, metadata: { ...provider.metadata, labels: count } })) as never,
      };
    },
    by: "interference",
  },
  {
    mistake: "a consumer whose list is emptied may use everything",
    take: (resources, account) => {
      const part = take(resources, account);
      const consumers = resources.consumers.map((consumer) => ({
        ...consumer,
        spec: { ...consumer.spec, routes: consumer.spec?.routes.filter((name) => part.routes.some((route) => nameOf(route) === name)) },
      }));
      return { ...part, consumers: consumers as never };
    },
    by: "soundness",
  },
  {
    mistake: "a provider that a route needs is missing",
    take: (resources, account) => {
      const part = take(resources, account);
      return { ...part, providers: part.providers.slice(1) };
    },
    by: "soundness",
  },
  {
    mistake: "everything is granted to everybody",
    take: (resources) => ({ ...resources, grants: [] }),
    by: "soundness",
  },
];

/** The part, with one kind of it as in the whole policy. */
function untrimmed(resources: Resources, account: Account, kind: "consumers" | "routes" | "priceBooks"): Resources {
  const part = take(resources, account);
  const names = new Set<string>(part[kind].map(fullNameOf));
  return { ...part, [kind]: (resources[kind] as readonly Resources["routes"][number][]).filter((item) => names.has(fullNameOf(item))) };
}

/** Adds the tests, each over so many cases. */
export function scopeProperties(numRuns: number): void {
  test(`non-interference: what happens outside of an account's grants leaves its root alone (${numRuns} cases)`, () => {
    fc.assert(nonInterference(take), { numRuns });
  });

  test(`a part is in order, is all that is granted and no more, and permits nothing that the whole does not (${numRuns} cases)`, () => {
    fc.assert(soundness(take), { numRuns });
  });

  test(`two controls on the same policy have the same roots (${numRuns} cases)`, () => {
    fc.assert(sameRoots(), { numRuns });
  });

  for (const { mistake, take: mistaken, by } of planted) {
    test(`is caught: ${mistake}`, () => {
      const runs = { numRuns: 50_000, endOnFailure: true };
      const { failed } = by === "interference" ? fc.check(nonInterference(mistaken), runs) : fc.check(soundness(mistaken), runs);
      expect(failed).toBe(true);
    });
  }
}
