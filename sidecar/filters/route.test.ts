import { describe, expect, it } from "vitest";
import type { Resources } from "../../proto/resources.ts";
import { answerOf, chatRequest, makeCall } from "../../test/kit/call.ts";
import { resourcesOf, routeOf } from "../../test/kit/policy.ts";
import type { Call, CallConsumer, Next } from "../call.ts";
import { compileRoute } from "./route.ts";

const someone: CallConsumer = { namespace: "default", name: "someone", team: "", routes: new Set() };

/** Routes a model name; returns where the call went, as route/provider/model. */
function routed(resources: Partial<Resources>, model: string, consumer = someone, random = 0): string {
  const reached: Call[] = [];
  const end: Next = () => answerOf();
  const { filter } = compileRoute(resourcesOf(resources), () => () => ({ send: end, seals: undefined }), {
    next: () => random,
    id: () => "",
  });
  filter(makeCall({ request: chatRequest({ model }), consumer }), (call) => {
    reached.push(call);
    return answerOf();
  });
  const target = reached[0]?.target;
  return `${target?.route}/${target?.provider}/${target?.model}`;
}

describe("route", () => {
  it("prefers an exact name to a pattern, and a longer pattern to a shorter", () => {
    const routes = [
      routeOf("all", { match: { models: ["*"] }, targets: [{ provider: "p" }] }),
      routeOf("gpts", { match: { models: ["gpt-*"] }, targets: [{ provider: "p" }] }),
      routeOf("one", { match: { models: ["gpt-5"] }, targets: [{ provider: "p", model: "gpt-5-2026" }] }),
    ];
    expect(routed({ routes }, "gpt-5")).toBe("one/p/gpt-5-2026");
    expect(routed({ routes }, "gpt-4")).toBe("gpts/p/gpt-4");
    expect(routed({ routes }, "other")).toBe("all/p/other");
    expect(routed({ routes: routes.toReversed() }, "gpt-4")).toBe("gpts/p/gpt-4");
  });

  it("draws a target in proportion to its weight", () => {
    const routes = [routeOf("r", { match: { models: ["m"] }, targets: [{ provider: "a", weight: 3 }, { provider: "b" }] })];
    expect(routed({ routes }, "m", someone, 0)).toBe("r/a/m");
    expect(routed({ routes }, "m", someone, 0.7499)).toBe("r/a/m");
    expect(routed({ routes }, "m", someone, 0.75)).toBe("r/b/m");
    expect(routed({ routes }, "m", someone, 0.9999)).toBe("r/b/m");
  });

  it("refuses an unknown model and lists what there is", () => {
    const routes = [routeOf("r", { match: { models: ["small", "large"] }, targets: [{ provider: "a" }] })];
    expect(() => routed({ routes }, "smal")).toThrow("No route answers to the model 'smal'. You may use: large, small.");
  });

  it("refuses a model that is for others, and does not list it", () => {
    const routes = [
      routeOf("theirs", { match: { models: ["secret"], consumers: ["others"] }, targets: [{ provider: "a" }] }),
      routeOf("ours", { match: { models: ["small"] }, targets: [{ provider: "a" }] }),
    ];
    expect(() => routed({ routes }, "secret")).toThrow("You may not use the model 'secret'. You may use: small.");
    expect(routed({ routes }, "secret", { ...someone, name: "others" })).toBe("theirs/a/secret");
  });

  it("keeps a consumer with routes of its own to those", () => {
    const routes = [
      routeOf("a", { match: { models: ["x"] }, targets: [{ provider: "p" }] }),
      routeOf("b", { match: { models: ["y"] }, targets: [{ provider: "p" }] }),
    ];
    const limited = { ...someone, routes: new Set(["b"]) };
    expect(routed({ routes }, "y", limited)).toBe("b/p/y");
    expect(() => routed({ routes }, "x", limited)).toThrow("You may not use the model 'x'");
  });

  it("does not see routes of another namespace", () => {
    const routes = [routeOf("r", { match: { models: ["m"] }, targets: [{ provider: "p" }] }, "other")];
    expect(() => routed({ routes }, "m")).toThrow("There is no model that you may use by name.");
    expect(routed({ routes }, "m", { ...someone, namespace: "other" })).toBe("r/p/m");
  });

  it("shows only the beginning of a huge name", () => {
    expect(() => routed({}, "x".repeat(10_000))).toThrow(/^.{1,300}$/);
  });
});
