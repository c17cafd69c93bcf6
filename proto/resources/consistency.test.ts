import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Consumer, ConsumerSchema } from "../gen/outrigger/policy/v1/consumer_pb.ts";
import { type ModelRoute, ModelRouteSchema } from "../gen/outrigger/policy/v1/model_route_pb.ts";
import { consumersOf, findConflicts } from "./consistency.ts";
import { fullNameOf, groupResources, nameOf, namespaceOf } from "./kinds.ts";
import { indexUsers } from "./users.ts";

const names = ["a", "b", "c", "d"];
const some = fc.uniqueArray(fc.constantFrom(...names), { maxLength: 3 });
const namespace = fc.constantFrom("", "default", "shop");
const consumers = fc
  .uniqueArray(fc.record({ name: fc.constantFrom(...names), namespace, routes: some }), {
    selector: ({ name, namespace }) => `${namespace || "default"}/${name}`,
    maxLength: 6,
  })
  .map((list) => list.map(({ name, namespace, routes }) => create(ConsumerSchema, { metadata: { name, namespace }, spec: { routes } })));
const routes = fc
  .uniqueArray(
    fc.record({
      name: fc.constantFrom(...names, "e", "f"),
      namespace,
      models: fc.array(fc.constantFrom("m", "n", "m*"), { maxLength: 3 }),
      users: fc.array(fc.constantFrom(...names), { maxLength: 3 }),
    }),
    {
      selector: ({ name, namespace }) => `${namespace || "default"}/${name}`,
      maxLength: 7,
    },
  )
  .map((list) =>
    list.map(({ name, namespace, models, users }) =>
      create(ModelRouteSchema, { metadata: { name, namespace }, spec: { match: { models, consumers: users } } }),
    ),
  );

test("the users of a route are found as by looking at everybody", () => {
  fc.assert(
    fc.property(consumers, routes, (everybody, all) => {
      const usersOf = indexUsers(everybody);
      for (const route of all) {
        expect(new Set(usersOf(route))).toEqual(new Set(consumersOf(route, everybody)));
        expect(usersOf(route).length).toBe(consumersOf(route, everybody).length);
      }
    }),
    { numRuns: 1_000 },
  );
});

test("routes between which a call could not choose are found as by comparing each with each, in the same order", () => {
  fc.assert(
    fc.property(consumers, routes, (everybody, all) => {
      const grouped = groupResources([...everybody, ...all]);
      const found = findConflicts(grouped, [], true)
        .filter(({ id }) => id === "policy/ambiguous-route")
        .map(({ resource, field, message }) => `${fullNameOf(resource)} ${field}: ${message}`);
      expect(found).toEqual(compareEach(grouped.routes, everybody));
    }),
    { numRuns: 2_000 },
  );
});

/** The plain way: every two routes of a namespace, and every model name of theirs. */
function compareEach(all: readonly ModelRoute[], everybody: readonly Consumer[]): string[] {
  const found: string[] = [];
  for (const [at, route] of all.entries()) {
    const models = route.spec?.match?.models ?? [];
    for (const [index, model] of models.entries()) {
      if (models.indexOf(model) !== index) continue;
      for (const other of all.slice(0, at)) {
        if (namespaceOf(other) !== namespaceOf(route) || !other.spec?.match?.models.includes(model)) continue;
        const shared = sharedBy(route, other, everybody);
        if (shared === undefined) continue;
        const message = `Both this route and ${fullNameOf(other)} answer to ${JSON.stringify(model)} for ${shared}.`;
        found.push(`${fullNameOf(route)} spec.match.models[${index}]: ${message}`);
      }
    }
  }
  return found;
}

function sharedBy(a: ModelRoute, b: ModelRoute, everybody: readonly Consumer[]): string | undefined {
  const [left, right] = [a.spec?.match?.consumers ?? [], b.spec?.match?.consumers ?? []];
  const inNamespace = everybody.filter((consumer) => namespaceOf(consumer) === namespaceOf(a));
  // In a namespace without consumers, anyone who is added later counts.
  if (inNamespace.length === 0 && (left.length === 0 || right.length === 0)) return "every consumer";
  const ofB = inNamespace.length === 0 ? right : consumersOf(b, inNamespace).map(nameOf);
  const ofA = inNamespace.length === 0 ? left : consumersOf(a, inNamespace).map(nameOf);
  const both = [...new Set(ofA.filter((name) => ofB.includes(name)))].sort();
  return both.length === 0 ? undefined : `consumer ${both.join(", ")}`;
}
