import { create, type DescMessage, fromBinary, getOption, hasOption, isMessage, type Message, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { capabilityHistory, capabilityLevel, findExcess } from "./capability.ts";
import { ConsumerSchema } from "./gen/outrigger/policy/v1/consumer_pb.ts";
import { type Provider, ProviderSchema } from "./gen/outrigger/policy/v1/provider_pb.ts";
import { SidecarGrantSchema } from "./gen/outrigger/policy/v1/sidecar_grant_pb.ts";
import { since, value_since } from "./gen/outrigger/policy/v1/since_pb.ts";
import { kindNames, schemaOf } from "./resources/kinds.ts";

test("a resource of the first level is understood by every level", () => {
  const provider = providerWith("env");
  for (let level = 1; level <= capabilityLevel; level++) expect(findExcess(provider, level)).toEqual([]);
});

test("a later field is named with its path and both levels", () => {
  expect(findExcess(providerWith("delivered"), 1)).toEqual([
    { field: "spec.credential.header.secret.delivered", message: "This field needs capability level 2, this sidecar has 1." },
  ]);
  expect(findExcess(providerWith("delivered"), 2)).toEqual([]);
});

test("a later kind is named", () => {
  const grant = create(SidecarGrantSchema, { metadata: { name: "a" } });
  expect(findExcess(grant, 1)).toEqual([{ field: "", message: "The kind SidecarGrant needs capability level 2, this sidecar has 1." }]);
  expect(findExcess(grant, 2)).toEqual([]);
});

test("a level above this build's own counts as its own", () => {
  expect(findExcess(providerWith("delivered"), capabilityLevel + 5)).toEqual([]);
});

/** What a sidecar sees of a field that its build does not have: a number and bytes. */
test("fields without a name are found at every depth, lists and maps included, once each and all of them", () => {
  const provider = providerWith("env");
  const outer = withUnknown(provider, 99);
  if (outer.spec === undefined || outer.spec.credential === undefined) throw new Error("a provider has a spec");
  outer.spec.credential.$unknown = [
    { no: 40, wireType: 0, data: Uint8Array.of(1) },
    { no: 40, wireType: 0, data: Uint8Array.of(2) },
  ];
  for (const capability of outer.spec.capabilities.slice(1)) capability.$unknown = [{ no: 7, wireType: 0, data: Uint8Array.of(1) }];
  const found = findExcess(outer, capabilityLevel);
  expect(found.map(({ field }) => field).sort()).toEqual(["#99", "spec.capabilities[1].#7", "spec.credential.#40"]);
  expect(found[0]?.message).toContain("Field 99 of Provider needs a later capability level");
});

test("a value without a name is found", () => {
  const provider = create(ProviderSchema, {
    metadata: { name: "a" },
    spec: { dialect: { case: "openai", value: { maxTokensField: 77 as never } } },
  });
  expect(findExcess(provider, capabilityLevel)).toEqual([
    expect.objectContaining({ field: "spec.openai.max_tokens_field", message: expect.stringContaining("value 77") }),
  ]);
});

test("unknown fields survive the wire, and so are found there", () => {
  const bytes = toBinary(ConsumerSchema, withUnknown(create(ConsumerSchema, { metadata: { name: "a" } }), 1234));
  expect(findExcess(fromBinary(ConsumerSchema, bytes), capabilityLevel).map(({ field }) => field)).toEqual(["#1234"]);
});

/** Whatever later builds may add, and wherever: none of it is passed over in silence. */
test("a field that nobody knows is found in whatever message of a resource it stands", () => {
  const provider = providerWith("env");
  let tried = 0;
  const tryIn = (message: Message): void => {
    message.$unknown = [{ no: 4000, wireType: 2, data: Uint8Array.of(1, 1) }];
    const received = fromBinary(ProviderSchema, toBinary(ProviderSchema, provider));
    expect(findExcess(received, capabilityLevel)).toMatchObject([{ field: expect.stringMatching(/#4000$/) }]);
    delete message.$unknown;
    tried += 1;
    for (const value of Object.values(message)) walk(value);
  };
  const walk = (value: unknown): void => {
    if (Array.isArray(value)) for (const item of value) walk(item);
    else if (isMessage(value)) tryIn(value);
    else if (typeof value === "object" && value !== null && "value" in value) walk(value.value);
  };
  tryIn(provider);
  expect(findExcess(provider, capabilityLevel)).toEqual([]);
  expect(tried).toBeGreaterThan(6);
});

test("no proto speaks of a level that has no line in the history", () => {
  const levels = new Set<number>();
  for (const kind of kindNames) collectLevels(schemaOf(kind), levels, new Set());
  expect([...levels].filter((level) => level < 2 || level > capabilityLevel)).toEqual([]);
  expect(levels.size).toBeGreaterThan(0);
  expect(capabilityHistory).toHaveLength(capabilityLevel);
});

function providerWith(source: "env" | "delivered"): Provider {
  return create(ProviderSchema, {
    apiVersion: "outrigger.dev/v1alpha1",
    kind: "Provider",
    metadata: { name: "a", labels: { tier: "one" } },
    spec: {
      dialect: { case: "openai", value: {} },
      credential: { form: { case: "header", value: { secret: { source: { case: source, value: "name" } } } } },
      capabilities: [{ models: "a-*" }, { models: "b-*" }],
    },
  });
}

function withUnknown<Shape extends Message>(message: Shape, no: number): Shape {
  message.$unknown = [{ no, wireType: 0, data: Uint8Array.of(1) }];
  return message;
}

function collectLevels(type: DescMessage, levels: Set<number>, seen: Set<string>): void {
  if (seen.has(type.typeName)) return;
  seen.add(type.typeName);
  for (const field of type.fields) {
    if (hasOption(field, since)) levels.add(getOption(field, since));
    for (const value of field.enum?.values ?? []) if (hasOption(value, value_since)) levels.add(getOption(value, value_since));
    if (field.message !== undefined) collectLevels(field.message, levels, seen);
  }
}
