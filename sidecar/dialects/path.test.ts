import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Fault, FaultReason } from "../../proto/fault.ts";
import { pathWriter } from "./path.ts";

const bare = {};
const inPath = pathWriter({ pathPrefix: "/openai/deployments/{model}", query: { "api-version": "2024-10-21" } }, "/chat/completions");
const asSteps = pathWriter({ pathPrefix: "/models/{+model}/v1" }, "/chat/completions");

describe("the path of a request", () => {
  test("is the dialect's own where nothing is said", () => {
    expect(pathWriter(bare, "/chat/completions")("m")).toBe("/chat/completions");
  });

  test("can name the model, and parameters follow it", () => {
    expect(inPath("gpt-4o")).toBe("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21");
    expect(asSteps("org/name")).toBe("/models/org/name/v1/chat/completions");
    expect(pathWriter({ query: { a: "1&b=2", c: "ä" } }, "/x")("m")).toBe("/x?a=1%26b%3D2&c=%C3%A4");
  });

  test("35: model ids with signs of addresses in them led elsewhere", () => {
    expect(inPath("arn:aws:x/y?z#w%2f é")).toBe(
      "/openai/deployments/arn%3Aaws%3Ax%2Fy%3Fz%23w%252f%20%C3%A9/chat/completions?api-version=2024-10-21",
    );
    expect(asSteps("org/a b?c")).toBe("/models/org/a%20b%3Fc/v1/chat/completions");
  });

  test.each([".", "..", "", "\ud83e"])("is refused for the model %j, before anything is sent", (model) => {
    for (const write of [inPath, asSteps]) {
      expect(() => write(model)).toThrow(expect.objectContaining({ reason: FaultReason.REQUEST_INVALID, field: "model" }));
    }
  });

  test.each(["../admin", "org/../../admin", "org//name", "/name", "org/."])("has no step that leads elsewhere: %j", (model) => {
    expect(() => asSteps(model)).toThrow(Fault);
  });

  test("stays below its prefix whatever the model's name", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", minLength: 1 }), (model) => {
        for (const [write, prefix] of [
          [inPath, "/openai/deployments/"],
          [asSteps, "/models/"],
        ] as const) {
          let path: string;
          try {
            path = write(model);
          } catch (caught) {
            expect(caught).toBeInstanceOf(Fault);
            continue;
          }
          // As a server reads it, dots resolved.
          const url = new URL(`https://provider.test${path}`);
          expect(url.pathname + url.search).toBe(path);
          expect(url.pathname.startsWith(prefix) && url.pathname.endsWith("/chat/completions")).toBe(true);
        }
      }),
    );
  });
});
