import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { sha256 } from "../control/sha256.ts";
import { type Provider, ProviderSchema } from "./gen/outrigger/policy/v1/provider_pb.ts";
import { groupResources } from "./resources/kinds.ts";
import { readResources } from "./resources.ts";
import { snapshotOf } from "./snapshot.ts";

const provider = `apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: demo}
spec: {openai: {}, headers: {x-b: "1", x-a: "2"}, timeouts: {call: 30s}}
`;
const route = `apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: fast}
spec: {match: {models: [a, b]}, targets: [{provider: demo}]}
`;

function rootOfText(...texts: string[]): string {
  const { resources, problems } = readResources(texts.map((text, index) => ({ path: `${index}.yaml`, text })));
  expect(problems).toEqual([]);
  return snapshotOf(resources, sha256).root;
}

test("the root is fixed: whoever computes it, now or later, gets these digits", () => {
  expect(rootOfText()).toMatchInlineSnapshot(`"40299ded89e503d80d6be2c94e8337492c0633e1d13f900ce6d46e1e63577ea9"`);
  expect(rootOfText(provider, route)).toMatchInlineSnapshot(`"6720c6697eb24f53e4673c4310abb07091d35a1e855ece0db7ca96a216f0e787"`);
});

test("files, their order, comments, key order, spelling and defaults written out do not matter", () => {
  const otherwise = `# The same.
spec:
  timeouts: {call: 30.0s}
  headers:
    x-a: '2' # first
    x-b: "1"
  "openai": {}
kind: Provider
metadata: {namespace: default, name: demo, annotations: {seen: yesterday}}
api_version: outrigger.dev/v1alpha1
`;
  const root = rootOfText(provider, route);
  expect(rootOfText(`${route}---\n${otherwise}`)).toBe(root);
  expect(rootOfText(route, "", provider)).toBe(root);
});

test.each([
  ["a value", provider.replace("30s", "31s")],
  ["a header", provider.replace("x-b", "x-c")],
  ["presence", provider.replace("openai: {}", "openai: {developer_role: false}")],
])("%s matters", (_, changed) => {
  expect(rootOfText(changed, route)).not.toBe(rootOfText(provider, route));
});

test("the order of what is ordered matters", () => {
  expect(rootOfText(provider, route.replace("[a, b]", "[b, a]"))).not.toBe(rootOfText(provider, route));
});

test("in whatever order resources and map entries come, the bytes are the same; whatever differs, differs", () => {
  const name = fc.stringMatching(/^[a-z0-9]{1,4}$/);
  const labels = fc.uniqueArray(fc.tuple(fc.oneof(name, fc.nat(50).map(String)), name), { selector: ([key]) => key, maxLength: 6 });
  const providers = fc.uniqueArray(fc.record({ name, labels, seconds: fc.nat(3) }), { selector: (item) => item.name, maxLength: 5 });
  const make = (list: { name: string; labels: [string, string][]; seconds: number }[]): string => {
    const messages = list.map(
      (item): Provider =>
        create(ProviderSchema, {
          metadata: { name: item.name, labels: Object.fromEntries(item.labels) },
          spec: { dialect: { case: "openai", value: {} }, timeouts: { call: { seconds: BigInt(item.seconds) } } },
        }),
    );
    return snapshotOf(groupResources(messages), sha256).root;
  };
  fc.assert(
    fc.property(providers, (list) => {
      const reversed = list.toReversed().map((item) => ({ ...item, labels: item.labels.toReversed() }));
      expect(make(reversed)).toBe(make(list));
      const [first, ...rest] = list;
      if (first === undefined) return;
      expect(make([{ ...first, seconds: first.seconds + 1 }, ...rest])).not.toBe(make(list));
      expect(make([{ ...first, labels: [...first.labels, ["new-label", "x"]] }, ...rest])).not.toBe(make(list));
      expect(make(rest)).not.toBe(make(list));
    }),
    { numRuns: 100 },
  );
});
