import { expect, test } from "vitest";
import { modelNames, readModel } from "./models.ts";

test("every listed name is a model", () => {
  for (const name of modelNames) expect(readModel(name)).toMatchObject({ name });
});

test("settings in a name change what the preset says", () => {
  expect(readModel("demo:slow?ttft=200&gap=5")).toMatchObject({ behaviour: { firstTokenMs: 200, gapMs: 5 } });
  expect(readModel("demo:slow?gap=5")).toMatchObject({ behaviour: { firstTokenMs: 1500, gapMs: 5 } });
});

test("other names are no models, other settings are a complaint that names what there is", () => {
  expect(readModel("gpt-4o")).toBeUndefined();
  expect(readModel("demo:constructor")).toBeUndefined();
  expect(readModel("demo?speed=1")).toBe(
    "The model 'demo' has no setting 'speed'. It has: ttft, gap, jitter, bytes, context, after, rate, retry.",
  );
  expect(readModel("demo:flaky?rate=2")).toBe("The model setting 'rate' must be a number from 0 to 1, but was '2'.");
  expect(readModel("demo?ttft=")).toBe("The model setting 'ttft' must be a number from 0 to 600000, but was ''.");
});
