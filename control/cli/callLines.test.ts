import { expect, test } from "vitest";
import { callLines } from "./callLines.ts";

const call = {
  severity: "info",
  time: "2026-11-22T12:01:03.250Z",
  request_id: "abc",
  door: "openai",
  consumer: "anyone",
  route: "smart",
  provider: "demo",
  model_served: "demo?gap=12",
  code: "OK",
  reason: "ok",
  total_ms: 310.4,
  tokens: { in: 12, out: 40 },
  message: "call",
};

/** What a person sees of records; styles are shown as their names. */
function seen(records: readonly object[], quietly = false): string[] {
  const lines: string[] = [];
  const terminal = { note: (text: string) => void lines.push(text), noteStyle: (style: string, text: string) => `<${style}>${text}</>` };
  callLines(terminal, quietly).write(records.map((record) => `${JSON.stringify(record)}\n`).join(""));
  return lines;
}

test("a call is one short line", () => {
  expect(seen([call])).toEqual(["<dim>12:01:03</>  openai  smart > demo?gap=12  12 in, 40 out  310 ms"]);
});

test("a failed call ends in its reason, a refused one has no route", () => {
  const failed = { ...call, severity: "warn", code: "UNAVAILABLE", reason: "PROVIDER_UNAVAILABLE", tokens: undefined };
  const refused = {
    severity: "warn",
    time: call.time,
    request_id: "abc",
    door: "anthropic",
    code: "NOT_FOUND",
    reason: "PATH_NOT_FOUND",
    message: "refused",
  };
  expect(seen([failed, refused])).toEqual([
    "<dim>12:01:03</>  openai  smart > demo?gap=12  310 ms  <red>PROVIDER_UNAVAILABLE</>",
    "<dim>12:01:03</>  anthropic  <red>PATH_NOT_FOUND</>",
  ]);
});

test("what is no call is told in its own words, with all problems below it", () => {
  const refused = {
    severity: "error",
    time: call.time,
    root: "01d3",
    problems: ["a.yaml:1:2: error: x", "a.yaml:3:4: error: y"],
    message: "policy refused",
  };
  expect(seen([refused], true)).toEqual([
    "<dim>12:01:03</>  <red>policy refused root=01d3</>\n  a.yaml:1:2: error: x\n  a.yaml:3:4: error: y",
  ]);
});

test("quietly, good news is left out and calls are not", () => {
  const applied = { severity: "info", time: call.time, root: "01d3", took_ms: 0.8, message: "policy applied" };
  expect(seen([applied, call], true)).toHaveLength(1);
  expect(seen([applied, call])).toHaveLength(2);
});

test("what is no record is passed on", () => {
  const lines: string[] = [];
  callLines({ note: (text) => void lines.push(text), noteStyle: (_, text) => text }).write("(node:1) Warning: something\n\n");
  expect(lines).toEqual(["(node:1) Warning: something"]);
});
