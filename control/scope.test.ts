import { expect, test } from "vitest";
import { fullNameOf, groupResources, kindOf, listResources } from "../proto/resources/kinds.ts";
import { readResources } from "../proto/resources.ts";
import { scopeProperties } from "../test/mesh/scopeProperties.ts";
import { scopePolicy } from "./scope.ts";

const policy = `
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: fast}
spec: {openai: {}}
---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: other}
spec: {openai: {}}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: chat}
spec: {match: {models: [chat], consumers: [web, jobs]}, targets: [{provider: fast}]}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: batch}
spec: {match: {models: [batch]}, targets: [{provider: other}]}
---
apiVersion: outrigger.dev/v1alpha1
kind: Consumer
metadata: {name: web}
spec: {identities: [{apiKey: {sha256: "${"1".repeat(64)}"}}], routes: [chat, batch]}
---
apiVersion: outrigger.dev/v1alpha1
kind: Consumer
metadata: {name: jobs}
spec: {identities: [{apiKey: {sha256: "${"2".repeat(64)}"}}]}
---
apiVersion: outrigger.dev/v1alpha1
kind: PriceBook
metadata: {name: prices}
spec: {currency: EUR, rows: [{provider: fast, model: "*", input: 1, output: 1}, {provider: other, model: "*", input: 1, output: 1}]}
---
apiVersion: outrigger.dev/v1alpha1
kind: SidecarGrant
metadata: {name: chat}
spec: {sidecars: [{account: chat}], routes: [chat], consumers: [web]}
---
apiVersion: outrigger.dev/v1alpha1
kind: SidecarGrant
metadata: {name: abroad}
spec: {sidecars: [{account: "batch-*", namespace: jobs}], routes: ["b*"]}
`;
const { resources, problems } = readResources([{ path: "policy.yaml", text: policy }]);
const namesOf = (namespace: string, account: string): string[] =>
  listResources(scopePolicy(resources).partOf({ namespace, account })).map((resource) => `${kindOf(resource)} ${fullNameOf(resource)}`);

test("a sidecar gets its routes and what they need, trimmed to itself", () => {
  expect(problems).toEqual([]);
  expect(namesOf("default", "chat")).toEqual([
    "Provider default/fast",
    "ModelRoute default/chat",
    "Consumer default/web",
    "PriceBook default/prices",
  ]);
  const part = scopePolicy(resources).partOf({ namespace: "default", account: "chat" });
  expect(part.routes[0]?.spec?.match?.consumers).toEqual(["web"]);
  expect(part.consumers[0]?.spec?.routes).toEqual(["chat"]);
  expect(part.priceBooks[0]?.spec?.rows.map(({ provider }) => provider)).toEqual(["fast"]);
});

test("a grant can name sidecars of another namespace, by pattern", () => {
  expect(namesOf("jobs", "batch-7")).toEqual([
    "Provider default/other",
    "ModelRoute default/batch",
    "Consumer default/jobs",
    "Consumer default/web",
    "PriceBook default/prices",
  ]);
});

test("whoever no grant names gets nothing", () => {
  expect(namesOf("default", "chat-2")).toEqual([]);
  expect(namesOf("jobs", "chat")).toEqual([]);
  expect(namesOf("default", "batch-7")).toEqual([]);
});

test("the whole is everything but the grants", () => {
  expect(scopePolicy(resources).whole).toEqual({ ...resources, grants: [] });
  expect(scopePolicy(groupResources([])).partOf({ namespace: "default", account: "chat" })).toEqual(groupResources([]));
});

scopeProperties(1_000);
