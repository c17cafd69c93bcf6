/** The page of faults has every reason, and says of each what the code does. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Fault, FaultReason, faultKinds, type KnownFaultReason } from "../proto/fault.ts";
import { anthropicServer } from "../sidecar/dialects/anthropic/anthropic.ts";
import { openAiServer } from "../sidecar/dialects/openai/openai.ts";

const page = readFileSync(join(import.meta.dirname, "../docs/faults.md"), "utf8");
const sections = new Map(
  page
    .split(/^## /m)
    .slice(1)
    .map((section) => [section.slice(0, section.indexOf("\n")), section] as const),
);
const reasons = (Object.values(FaultReason).filter((reason) => typeof reason === "number") as KnownFaultReason[]).filter(
  // What no fault may be is shown as a mistake of our own.
  (reason) => reason !== FaultReason.UNSPECIFIED,
);

test.each(reasons.map((reason) => [faultKinds[reason].name, reason] as const))(
  "%s has a section that says what is done",
  (name, reason) => {
    const { code, httpStatus, retryable } = faultKinds[reason];
    const fault = new Fault(reason, "example");
    const openai = JSON.parse(openAiServer.writeFault(fault, "id")).error;
    const anthropic = JSON.parse(anthropicServer.writeFault(fault, "id")).error;
    const openaiCode = openai.code === null ? "no code" : `\`${openai.code}\``;
    const section = sections.get(name) ?? "";
    expect(section.split("\n")[2]).toBe(
      `\`${code}\` · HTTP ${httpStatus} · OpenAI \`${openai.type}\`, ${openaiCode} · Anthropic \`${anthropic.type}\` · ${retryable ? "try again" : "do not retry"}`,
    );
    for (const part of ["**Cause.**", "**Example.**", "**Fix.**"]) expect(section).toContain(part);
  },
);

test("there is no section for what does not exist", () => {
  expect([...sections.keys()].toSorted()).toEqual(reasons.map((reason) => faultKinds[reason].name).toSorted());
});
