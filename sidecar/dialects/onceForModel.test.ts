import { expect, it } from "vitest";
import { modelsMax, nameUnitsMax, onceForModel } from "./onceForModel.ts";

it("is asked once for each name, and keeps no more names than there are models", () => {
  const asked: string[] = [];
  const found = onceForModel((model) => {
    asked.push(model);
    return { model };
  });
  expect(found("a")).toBe(found("a"));
  expect(found("b").model).toBe("b");
  expect(asked).toEqual(["a", "b"]);
  for (let i = 2; i < modelsMax; i++) found(`model ${i}`);
  found("a");
  expect(asked).toHaveLength(modelsMax);
  // One more than fits: nothing is kept of those before it.
  found("one more");
  expect(found("a").model).toBe("a");
  expect(asked.slice(modelsMax)).toEqual(["one more", "a"]);
});

it("keeps no name that is longer than names are", () => {
  let asked = 0;
  const found = onceForModel((model) => {
    asked++;
    return model.length;
  });
  for (const length of [nameUnitsMax, nameUnitsMax, nameUnitsMax + 1, nameUnitsMax + 1]) expect(found("x".repeat(length))).toBe(length);
  expect(asked).toBe(3);
});
