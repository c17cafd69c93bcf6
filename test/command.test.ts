/** What we tell a stranger to run is what CI runs, and it ends in the way that CI reads. */
import { execFileSync } from "node:child_process";
import { accessSync, constants, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const command = "npm install && npm test";

test("CI runs the README's own test command and nothing else", () => {
  const path = join(root, ".ci/run");
  const lines = readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"));
  expect(lines).toEqual(["set -euo pipefail", expect.stringMatching(/^cd /), command]);
  accessSync(path, constants.X_OK);
  execFileSync("bash", ["-n", path]);
});

test("the README names it", () => {
  expect(readFileSync(join(root, "README.md"), "utf8")).toContain(command);
});

test("npm test is this runner", () => {
  const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  expect(scripts.test).toBe("node test/run.ts");
  expect(scripts["test:long"]).toBe("node test/run.ts --long");
});
