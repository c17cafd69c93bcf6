/** The page of control lists every fault that control has, with its code, and no other. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Code } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { controlFaults } from "../control/serve/fault.ts";

test("docs/control.md has every fault with its code", () => {
  const page = readFileSync(join(import.meta.dirname, "../docs/control.md"), "utf8");
  const section = page.split("## Faults")[1] ?? "";
  const rows = [...section.matchAll(/^\| `([A-Z_]+)` \| `([A-Z_]+)` \| (.+) \|$/gm)].map(([, reason, code]) => [reason, code]);
  const codeName = (code: Code) => (Code[code] ?? "").replaceAll(/(?<=[a-z])[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
  expect(rows).toEqual(Object.entries(controlFaults).map(([reason, code]) => [reason, codeName(code)]));
});
