import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { routeOf } from "../../test/kit/policy.ts";
import { kindOf, readMessage, readYaml } from "../resources.ts";
import { wholeBytes } from "../snapshot.ts";
import { writeForm } from "./written.ts";

const folders = ["policy", "check"].map((name) => join(import.meta.dirname, "../../test/golden", name));
const texts = folders.flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".yaml"))
    .map((name) => [name, readFileSync(join(folder, name), "utf8")] as const),
);
/** Every resource without an error of its own, of all policies that other tests check: hundreds, of every kind. */
const sound = texts.flatMap(([name, text]) => readYaml(text, name).resources.map(({ resource }) => resource));

test("what is written reads as the same resource", () => {
  expect(new Set(sound.map(kindOf))).toEqual(new Set(["Provider", "ModelRoute", "Consumer", "PriceBook", "SidecarGrant"]));
  for (const resource of sound) {
    const again = readYaml(JSON.stringify(writeForm(resource).form), "again.json");
    expect(again.problems).toEqual([]);
    expect(again.resources.map((one) => wholeBytes(one.resource))).toEqual([wholeBytes(resource)]);
  }
});

test("a message that is sound as a text is sound as a message", () => {
  for (const resource of sound) expect(readMessage(resource).problems).toEqual([]);
});

test("a message breaks the rules that a text breaks, in the same words without a place", () => {
  const route = routeOf("Big Name", { match: { models: ["m"] }, targets: [{ provider: "" }] });
  const written = readYaml(JSON.stringify(writeForm(route).form), "a.json").problems;
  const told = readMessage(route).problems;
  expect(told.map(({ id, field }) => `${id} ${field}`)).toEqual([
    "policy/rule metadata.name",
    "policy/missing-field spec.targets[0].provider",
  ]);
  expect(told.map(({ id, field, message, hint }) => ({ id, field, message, hint }))).toEqual(
    written.map(({ id, field, message, hint }) => ({ id, field, message, hint })),
  );
  for (const problem of told) expect(problem).not.toHaveProperty("line");
});

test("any label is written so that it reads as itself", () => {
  const keys = fc.string({ unit: "binary", minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(fc.dictionary(keys, fc.string({ unit: "binary", maxLength: 12 }), { maxKeys: 5 }), (labels) => {
      const route = routeOf("a", { match: { models: ["m"] }, targets: [{ provider: "p" }] });
      if (route.metadata !== undefined) route.metadata.labels = labels;
      const again = readYaml(JSON.stringify(writeForm(route).form), "again.json").resources[0]?.resource;
      expect(again === undefined ? [] : wholeBytes(again)).toEqual(wholeBytes(route));
    }),
  );
});

test("fields are named as in files, with what may not be shown marked", () => {
  const text = [
    "apiVersion: outrigger.dev/v1alpha1",
    "kind: Consumer",
    'metadata: {name: app, namespace: default, labels: {"a.b": c}}',
    "spec:",
    "  identities:",
    `    - api_key: {sha256: ${"0a".repeat(32)}}`,
    "    - anonymous: {}",
  ].join("\n");
  const resource = readYaml(text, "a.yaml").resources[0]?.resource;
  if (resource === undefined) throw new Error("the text is sound");
  const { form, leaves } = writeForm(resource);
  expect(form.metadata).toEqual({ name: "app", labels: { "a.b": "c" } });
  expect([...leaves.keys()]).toEqual([
    "apiVersion",
    "kind",
    "metadata.name",
    'metadata.labels["a.b"]',
    "spec.identities[0].api_key.sha256",
    "spec.identities[1].anonymous",
  ]);
});
