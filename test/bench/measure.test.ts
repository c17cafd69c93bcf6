import { expect, test } from "vitest";
import type { JobResult } from "./job.ts";
import { compared, instanceOf } from "./measure.ts";
import type { Row } from "./rows.ts";
import { ROWS } from "./rows.ts";

const result: JobResult = {
  windowUs: 800_000,
  calls: 900,
  events: 900,
  callsAll: 1000,
  failed: 0,
  reasons: [],
  unfinished: 0,
  cpuUs: 1,
  loadBusyUs: 1,
  otherUs: 0,
  stolenUs: 0,
  bytesMin: 655,
  bytesMax: 655,
  latencies: new Float64Array(),
  firsts: new Float64Array(),
  delays: new Float64Array(),
};

function row(id: string): Row {
  const found = ROWS.find((one) => one.id === id);
  if (found === undefined) throw new Error(`there is no row ${id}`);
  return found;
}

test("every answer was asked for at the provider once, and the check's too", () => {
  const saturated = (asked: number, more: Partial<JobResult> = {}) =>
    compared(row("unary/outrigger/grpc/h2"), { key: "outrigger" }, { ...result, ...more }, asked, 64);
  expect(saturated(1001)).toEqual([]);
  // The check may have failed before it asked, which it says itself.
  expect(saturated(1000)).toEqual([]);
  expect(saturated(999)).toEqual(["1000 answers, but the provider was asked 999 times"]);
  // A subject that asks twice, be it once only.
  expect(saturated(1002)).toEqual(["1000 answers, but the provider was asked 1002 times"]);
  // Calls without an answer have asked, or have not.
  for (const asked of [1000, 1004]) {
    const problems = saturated(asked, { failed: 2, reasons: ["status 502"], unfinished: 1 });
    expect(problems).toEqual(["2 calls failed: status 502", "1 calls were not answered within two seconds of the window"]);
  }
});

test("streams at a pace are given up with as many calls on their way as there are streams", () => {
  const paced = (asked: number) => compared(row("paced/outrigger/openai/h1"), { key: "outrigger" }, result, asked, 200);
  expect(paced(1200)).toEqual([]);
  expect(paced(1202)).toEqual(["1000 answers, but the provider was asked 1202 times"]);
});

test("each door of ours, before each format, has a process of its own, and rows have names of their own", () => {
  expect(instanceOf(row("burst/outrigger/anthropic/h1"))).toBe("outrigger anthropic");
  expect(instanceOf(row("burst/outrigger/anthropic-to-openai/h1"))).toBe("outrigger anthropic-to-openai");
  expect(instanceOf(row("unary/outrigger/grpc-to-gemini/h2"))).toBe("outrigger grpc-to-gemini");
  expect(instanceOf(row("unary/nginx/anthropic/h1"))).toBe("nginx");
  expect(new Set(ROWS.map(({ id }) => id)).size).toBe(ROWS.length);
  // A row that names no other could not be compared with it.
  for (const { beside } of ROWS) if (beside !== undefined) expect(row(beside).subject).toBe("nginx");
});
