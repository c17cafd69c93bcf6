import { expect, it } from "vitest";
import { modelTable } from "./models.ts";

it("knows each generation by its name, wherever the name is used", () => {
  const modelOf = modelTable([]);
  const traits = (model: string) => {
    const { thinking, jsonSchema, sampling, maxOutputTokens } = modelOf(model);
    return [thinking, jsonSchema, sampling, maxOutputTokens];
  };
  expect(traits("claude-3-opus-20240229")).toEqual(["none", "tool", true, 4096]);
  expect(traits("claude-3-5-sonnet-latest")).toEqual(["none", "tool", true, 8192]);
  expect(traits("claude-3-7-sonnet-20250219")).toEqual(["budget", "tool", true, 64_000]);
  expect(traits("claude-sonnet-4-20250514")).toEqual(["budget", "tool", true, 64_000]);
  expect(traits("claude-opus-4-0")).toEqual(["budget", "tool", true, 32_000]);
  expect(traits("eu.anthropic.claude-opus-4-1-20250805-v1:0")).toEqual(["budget", "tool", true, 32_000]);
  expect(traits("claude-haiku-4-5@20251001")).toEqual(["budget", "output_config", true, 64_000]);
  expect(traits("claude-opus-4-6")).toEqual(["adaptive", "output_config", true, 128_000]);
  expect(traits("claude-opus-4-7")).toEqual(["adaptive", "output_config", false, 0]);
  expect(traits("claude-sonnet-5")).toEqual(["adaptive", "output_config", false, 0]);
  expect(traits("glm-5.2")).toEqual(["budget", "tool", true, 0]);
});

it("asks an operator's rows first, for what they say and no more", () => {
  const modelOf = modelTable([
    { pattern: "claude-*-5", sampling: undefined, maxOutputTokens: 5 },
    { pattern: "claude-sonnet-4-5", sampling: false, maxOutputTokens: 6 },
    { pattern: "*", thinking: "none" },
  ]);
  expect(modelOf("claude-sonnet-4-5")).toEqual({
    thinking: "none",
    jsonSchema: "output_config",
    sampling: false,
    samplingPair: false,
    maxOutputTokens: 5,
  });
  expect(modelOf("claude-sonnet-4-5-20250929").maxOutputTokens).toBe(64_000);
});
