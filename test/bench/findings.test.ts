import { expect, test } from "vitest";
import { Findings } from "./findings.ts";

test("what another gateway fails to do fails no run, and what is ours does", () => {
  const findings = new Findings();
  for (const key of ["outrigger", "before", "connect-node", "nginx", "direct", "portkey", "litellm", "envoy"] as const) {
    findings.add(key, key, "held 500 of 1000");
  }
  const named = (lines: readonly string[]) => lines.map((line) => line.replace(": held 500 of 1000", ""));
  expect(named(findings.problems)).toEqual(["outrigger", "before", "connect-node", "nginx", "direct"]);
  expect(named(findings.missing)).toEqual(["portkey", "litellm", "envoy"]);
});
