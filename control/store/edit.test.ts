import { expect, test } from "vitest";
import { type Resource, readResources, readYaml } from "../../proto/resources.ts";
import { keyOf } from "./change.ts";
import { editFiles, placeIn } from "./edit.ts";

const head = (kind: string, name: string) => `apiVersion: outrigger.dev/v1alpha1\nkind: ${kind}\nmetadata: {name: ${name}}\n`;
const provider = (name: string, port: number) =>
  `${head("Provider", name)}spec: {openai: {row: compatible}, endpoint: "http://h:${port}"}\n`;

function resource(text: string): Resource {
  const { resources, problems } = readYaml(text, "x.yaml");
  expect(problems).toEqual([]);
  const [only] = resources;
  if (only === undefined) throw new Error("there is a resource");
  return only.resource;
}

/** The texts after an edit, by path. */
function edited(files: Readonly<Record<string, string>>, upserts: readonly Resource[], removals: readonly Resource[] = []) {
  const before = Object.entries(files).map(([path, text]) => ({ path, text }));
  const edits = editFiles(placeIn("policy"), before, upserts, removals.map(keyOf));
  const after = new Map(Object.entries(files));
  for (const edit of edits) {
    expect(edit.before).toBe(files[edit.path]);
    if (edit.after === undefined) after.delete(edit.path);
    else after.set(edit.path, edit.after);
  }
  const read = readResources([...after].map(([path, text]) => ({ path, text })));
  expect(read.problems).toEqual([]);
  return {
    texts: Object.fromEntries(after),
    ports: Object.fromEntries(read.resources.providers.map((one) => [one.metadata?.name, one.spec?.endpoint])),
  };
}

const three = `# All of ours.\n---\n# The first.\n${provider("a", 1)}\n# Between.\n---\n${provider("b", 2)}# After b.\n---\n{"apiVersion": "outrigger.dev/v1alpha1", "kind": "Provider", "metadata": {"name": "c"}, "spec": {"openai": {"row": "compatible"}, "endpoint": "http://h:3"}} # c\n`;

test("a resource is replaced where it stands, and every other byte stays", () => {
  for (const [name, port] of [
    ["a", 1],
    ["b", 2],
    ["c", 3],
  ] as const) {
    const { texts, ports } = edited({ "all.yaml": three }, [resource(provider(name, 9))]);
    expect(ports).toEqual({ a: "http://h:1", b: "http://h:2", c: "http://h:3", [name]: "http://h:9" });
    const text = texts["all.yaml"] ?? "";
    // All that is not of this document is still there, in its order.
    const pieces = three.split(new RegExp(`(?:apiVersion|\\{"apiVersion)[^#]*?h:${port}"\\}*\\n?`));
    let at = 0;
    for (const piece of pieces) {
      const found = text.indexOf(piece, at);
      expect(found, piece).toBeGreaterThanOrEqual(at);
      at = found + piece.length;
    }
    expect(pieces).toHaveLength(2);
  }
});

test("a new resource gets a file of its own", () => {
  const { texts } = edited({ "all.yaml": three }, [resource(provider("new", 4))]);
  expect(texts["all.yaml"]).toBe(three);
  expect(texts["policy/Provider/default.new.yaml"]).toBe(
    "apiVersion: outrigger.dev/v1alpha1\nkind: Provider\nmetadata:\n  name: new\nspec:\n  openai:\n    row: compatible\n  endpoint: http://h:4\n",
  );
});

test("a file that has the name of a new one's but holds another resource keeps it", () => {
  const path = "policy/Provider/default.new.yaml";
  const { texts, ports } = edited({ [path]: `${provider("old", 1).trimEnd()}` }, [resource(provider("new", 4))]);
  expect(Object.keys(texts)).toEqual([path]);
  expect(ports).toEqual({ old: "http://h:1", new: "http://h:4" });
});

test("a resource goes with the line that begins it, and a file with its last resource", () => {
  const gone = edited({ "all.yaml": three }, [], [resource(provider("b", 2))]);
  expect(gone.ports).toEqual({ a: "http://h:1", c: "http://h:3" });
  expect(gone.texts["all.yaml"]).toBe(three.replace(`---\n${provider("b", 2)}`, ""));
  const one = edited({ "a.yaml": provider("a", 1), "b.yaml": `# only b\n${provider("b", 2)}` }, [], [resource(provider("b", 2))]);
  expect(Object.keys(one.texts)).toEqual(["a.yaml"]);
});

test("JSON stays JSON, and odd but sound YAML stays sound", () => {
  const json = JSON.stringify({
    apiVersion: "outrigger.dev/v1alpha1",
    kind: "Provider",
    metadata: { name: "a" },
    spec: { openai: { row: "compatible" }, endpoint: "http://h:1" },
  });
  const { texts } = edited({ "a.json": json }, [resource(provider("a", 9))]);
  expect(JSON.parse(texts["a.json"] ?? "").spec.endpoint).toBe("http://h:9");
  const indented = provider("a", 1).replace(/^/gm, "  ").trimEnd();
  for (const odd of [
    `%YAML 1.2\n---\n${provider("a", 1)}...\n# end\n`,
    `---\n${indented}\n`,
    `--- ${json}\n`,
    `--- # comment\n${provider("a", 1)}`,
    `\n\n${provider("a", 1)}\n\n`,
    provider("a", 1).replaceAll("\n", "\r\n"),
    provider("a", 1).trimEnd(),
    provider("a", 1).replace("metadata: {name: a}", "metadata: {name: &n a, labels: {same: *n}}"),
  ]) {
    expect(edited({ "odd.yaml": odd }, [resource(provider("a", 9))]).ports, odd).toEqual({ a: "http://h:9" });
    const beside = { "odd.yaml": odd, "b.yaml": provider("b", 2) };
    expect(edited(beside, [], [resource(provider("a", 1))]).ports, odd).toEqual({ b: "http://h:2" });
    const behind = `${odd}${odd.endsWith("\n") ? "" : "\n"}---\n${provider("b", 2)}`;
    expect(edited({ "odd.yaml": behind }, [], [resource(provider("a", 1))]).ports, odd).toEqual({ b: "http://h:2" });
    expect(edited({ "odd.yaml": behind }, [resource(provider("b", 8))]).ports, odd).toEqual({ a: "http://h:1", b: "http://h:8" });
  }
});
