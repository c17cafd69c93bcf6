import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { makeRules, problemText, readResources } from "../../proto/resources.ts";
import { check } from "./check.ts";

const rules = makeRules();
const golden = new URL("../../test/golden/check/", import.meta.url);
const cases = readdirSync(golden)
  .filter((name) => name.endsWith(".yaml"))
  .map((name) => ({ name, text: readFileSync(new URL(name, golden), "utf8") }));

function findings(text: string, exposed: boolean, name = "policy.yaml"): string[] {
  return check(readResources([{ path: name, text }], rules), { exposed }).map(problemText);
}

describe("each case", () => {
  test("there are cases", () => expect(cases.length).toBeGreaterThan(4));

  test.each(cases)("$name", async ({ name, text }) => {
    const lines = findings(text, false, name).map((line) => `${line}\n`);
    await expect(lines.join("")).toMatchFileSnapshot(new URL(name.replace(".yaml", ".txt"), golden).pathname);
  });

  test("a clean policy has no findings", () => {
    const clean = cases.find(({ name }) => name === "clean.yaml")?.text ?? "";
    expect(findings(clean, false)).toEqual([]);
  });
});

describe("callers without a credential", () => {
  const anyone = cases.find(({ name }) => name === "clean.yaml")?.text ?? "";
  const keyed = `${anyone}---
apiVersion: outrigger.dev/v1alpha1
kind: Consumer
metadata: {name: team}
spec: {identities: [{api_key: {sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}}]}
`;
  test.each([
    ["on this machine alone are meant", anyone, false, []],
    [
      "from the network are probably not",
      anyone,
      true,
      ["Whoever reaches this sidecar over the network is anyone, without any credential."],
    ],
    ["beside keys make wrong keys right", keyed, false, ["Callers with a wrong or revoked key are not refused: they are anyone."]],
  ])("%s", (_, text, exposed, messages) => {
    expect(check(readResources([{ path: "a", text }], rules), { exposed }).map(({ message }) => message)).toEqual(messages);
  });
});

test.each([
  ["http://localhost:1", true],
  ["http://127.8.9.1", true],
  ["http://vllm", true],
  ["http://vllm.models.svc.cluster.local:8000", true],
  ["http://172.31.0.1", true],
  ["http://172.32.0.1", false],
  ["http://11.0.0.1", false],
  ["http://[fd00::1]", true],
  ["http://[::ffff:10.0.0.1]", true],
  ["http://[2001:db8::1]", false],
  ["http://example.com", false],
  // A name that only looks like a near one, and numbers in other spellings, are read as what they are.
  ["http://localhost.example.com", false],
  ["http://0x7f.1", true],
  ["http://3405803783", false],
  ["https://example.com", true],
])("%s may go without encryption: %s", (endpoint, fine) => {
  const clean = cases.find(({ name }) => name === "clean.yaml")?.text.replace("http://127.0.0.1:8000/v1", JSON.stringify(endpoint)) ?? "";
  expect(check(readResources([{ path: "a", text: clean }], rules), { exposed: false }).map(({ id }) => id)).toEqual(
    fine ? [] : ["policy/plain-http"],
  );
});
