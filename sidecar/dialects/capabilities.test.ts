import { create, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Fault, FaultReason } from "../../proto/fault.ts";
import { type ChatRequest, ToolMode } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { EmbeddingRequestSchema } from "../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import { chatRequest } from "../../test/kit/call.ts";
import { type Capability, capabilityTable, withCapabilities } from "./capabilities.ts";
import type { AnswerInput, ClientHalf, EmbeddingRequestInput, RequestInput, WrittenRequest } from "./dialect.ts";

const unsupported = (parameter: string, models?: string): Capability => ({
  parameter,
  support: "unsupported",
  how: "not there",
  ...(models === undefined ? {} : { models }),
});

/** What reaches the dialect, and what comes out with it. */
function asked(
  request: ChatRequest,
  capabilities: readonly Capability[],
  given: { strictMembers?: boolean; dropUnsupported?: boolean; model?: string } = {},
): { seen: RequestInput; written: WrittenRequest } {
  const inputs: RequestInput[] = [];
  const client: ClientHalf = {
    dialect: "openai",
    writeRequest(input) {
      inputs.push(input);
      const own = { $typeName: "outrigger.chat.v1.Warning" as const, code: "PARAMETER_DROPPED", field: "own", message: "" };
      return { path: "/", headers: [], body: "", warnings: [own] };
    },
    readAnswer: () => {
      throw new Error("nothing is read here");
    },
    readFault: () => {
      throw new Error("nothing is read here");
    },
  };
  const capable = withCapabilities(client, { capabilities, strictMembers: given.strictMembers ?? false });
  const written = capable.writeRequest({
    request,
    native: { dialect: "openai", text: "{}" },
    model: given.model ?? "m",
    streaming: false,
    dropUnsupported: given.dropUnsupported ?? false,
  });
  const [seen] = inputs;
  if (seen === undefined) throw new Error("the dialect was not asked");
  return { seen, written };
}

function refusalOf(act: () => unknown): Fault {
  try {
    act();
  } catch (caught) {
    return caught as Fault;
  }
  throw new Error("expected a refusal");
}

const extra = (path: string, dialect = "openai") => ({ dialect, path, json: "1" });

describe("parameters that are not there", () => {
  /** Every parameter that the conversation has beside what is said, with a request that asks for something by it. */
  const cases: [string, Parameters<typeof chatRequest>[0]][] = [
    ["max_output_tokens", { maxOutputTokens: 0n }],
    ["temperature", { temperature: 0 }],
    ["top_p", { topP: 0 }],
    ["top_k", { topK: 0n }],
    ["n", { n: 2 }],
    ["seed", { seed: 0n }],
    ["presence_penalty", { presencePenalty: -1 }],
    ["frequency_penalty", { frequencyPenalty: 1 }],
    ["logprobs", { logprobs: { top: 0 } }],
    ["reasoning", { reasoning: { amount: { case: "effort", value: "low" } } }],
    ["parallel_tool_calls", { parallelToolCalls: false }],
    ["response_format.json_object", { responseFormat: { format: { case: "jsonObject", value: {} } } }],
    ["response_format.json_schema", { responseFormat: { format: { case: "jsonSchema", value: { schemaJson: "{}" } } } }],
    ["stop", { stop: [""] }],
    ["logit_bias", { logitBias: { 1: 0 } }],
    ["tools", { tools: [{ name: "f" }] }],
    ["tool_choice", { toolChoice: { choice: { case: "mode", value: ToolMode.NONE } } }],
    ["service_tier", { serviceTier: "flex" }],
  ];

  test.each(cases)("%s is refused by name, or left out and reported", (parameter, members) => {
    const request = chatRequest(members);
    const fault = refusalOf(() => asked(request, [unsupported(parameter)]));
    expect([fault.reason, fault.field, fault.message]).toEqual([
      FaultReason.PARAMETER_UNSUPPORTED,
      parameter,
      `The model m does not support ${parameter}: not there.`,
    ]);
    const before = structuredClone(request);
    const { seen, written } = asked(request, [unsupported(parameter)], { dropUnsupported: true });
    expect(seen.request).toEqual(chatRequest());
    expect(seen.native).toBeUndefined();
    expect(written.warnings.map(({ code, field }) => `${code} ${field}`)).toEqual([
      `PARAMETER_DROPPED ${parameter}`,
      "PARAMETER_DROPPED own",
    ]);
    // The next attempt elsewhere starts from the same request (lesson 34).
    expect(request).toEqual(before);
  });

  test.each(cases)("%s goes on as it came where it is there, or where nothing is said of it", (parameter, members) => {
    const request = chatRequest(members);
    for (const capabilities of [[], [unsupported(parameter, "other")], [{ ...unsupported(parameter), support: "mapped" as const }]]) {
      const { seen, written } = asked(request, [...capabilities, unsupported("x")]);
      expect(seen.request).toBe(request);
      expect(seen.native?.text).toBe("{}");
      expect(written.warnings.length).toBe(1);
    }
  });

  test("who the end user is changes nothing of an answer: it is left out and never refused", () => {
    const { seen, written } = asked(chatRequest({ user: "u" }), [unsupported("user")]);
    expect(seen.request.user).toBe("");
    expect(written.warnings[0]?.message).toBe("user was left out: the model m does not support it: not there.");
  });

  test("37: values that mean what their absence means are not sent and not refused, and zero is none of them", () => {
    const usual = { n: 1, topP: 1, temperature: 1, presencePenalty: 0, frequencyPenalty: 0, parallelToolCalls: true, serviceTier: "auto" };
    const names = ["n", "top_p", "temperature", "presence_penalty", "frequency_penalty", "parallel_tool_calls", "service_tier"];
    const { seen, written } = asked(
      chatRequest(usual),
      names.map((name) => unsupported(name)),
    );
    expect(seen.request).toEqual(chatRequest());
    expect(written.warnings.length).toBe(1);
    expect(refusalOf(() => asked(chatRequest({ temperature: 0 }), [unsupported("temperature")])).field).toBe("temperature");
  });
});

describe("what only the dialect knows", () => {
  test("is left alone where nothing is said of it", () => {
    const request = chatRequest({ extras: [extra("a"), extra("messages[0].b")] });
    expect(asked(request, [unsupported("c")]).seen.request).toBe(request);
  });

  test("is refused by its own path, for a row that names it or what it is below of", () => {
    for (const [path, parameter] of [
      ["a", "a"],
      ["a.b[2].c", "a"],
      ["messages[3].x", "messages[].x"],
      ["tools[1]", "tools[]"],
      ["tools[1].function.y", "tools[]"],
    ] as const) {
      const request = chatRequest({ extras: [extra("kept"), extra(path)] });
      expect(refusalOf(() => asked(request, [unsupported(parameter)])).field).toBe(path);
      const { seen } = asked(request, [unsupported(parameter)], { dropUnsupported: true });
      expect(seen.request.extras.map((kept) => kept.path)).toEqual(["kept"]);
    }
  });

  test("is refused by a server that refuses what it does not know, but for what a row maps", () => {
    const mapped: Capability = { parameter: "messages[].prefix", support: "mapped", how: "" };
    const request = chatRequest({ extras: [extra("messages[2].prefix"), extra("theirs", "other")] });
    expect(asked(request, [mapped], { strictMembers: true }).seen.request).toBe(request);
    const fault = refusalOf(() => asked(chatRequest({ extras: [extra("messages[2].x")] }), [mapped], { strictMembers: true }));
    expect(fault.message).toBe("The model m does not support messages[2].x: the API refuses members that it does not know.");
  });

  test("is left out without a refusal where it came back with an answer or is a hint", () => {
    const paths = ["metadata.k", "store", "messages[1].annotations", "messages[1].tool_calls[0].index"];
    const { seen, written } = asked(chatRequest({ extras: paths.map((path) => extra(path)) }), [], { strictMembers: true });
    expect(seen.request.extras).toEqual([]);
    expect(written.warnings.slice(0, -1).map(({ field }) => field)).toEqual(paths);
  });

  test("of any path is looked up in time, whatever the path", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom("a", ".", "[", "]", "0", '"') }), (path) => {
        const { seen } = asked(chatRequest({ extras: [extra(path)] }), [], { strictMembers: true, dropUnsupported: true });
        expect(seen.request.extras).toEqual([]);
      }),
    );
  });
});

describe("the table", () => {
  test("is kept for names of usual length alone", () => {
    const tableOf = capabilityTable([unsupported("stop")]);
    const usual = "m".repeat(512);
    expect(tableOf(usual)).toBe(tableOf(usual));
    // Kept, a name of megabytes would stay as long as the policy.
    const long = "m".repeat(513);
    expect(tableOf(long)).toEqual(tableOf(usual));
    expect(tableOf(long)).not.toBe(tableOf(long));
  });

  test("40: of the rows that fit, the first holds, and a model that no row names keeps everything", () => {
    const table = capabilityTable([
      { parameter: "stop", support: "mapped", how: "", models: "x-chat*" },
      unsupported("stop", "x-*"),
      { parameter: "seed", support: "emulated", how: "" },
    ]);
    expect(table("x-chat-1").get("stop")?.support).toBe("mapped");
    expect(table("x-2").get("stop")?.support).toBe("unsupported");
    expect(table("y").get("stop")).toBeUndefined();
    expect(table("y").get("seed")?.support).toBe("emulated");
  });

  test("costs nothing where it refuses nothing, and can be shown", () => {
    const writeRequest = (): WrittenRequest => ({ path: "", headers: [], body: "", warnings: [] });
    const readAnswer: ClientHalf["readAnswer"] = () => {
      throw new Error("nothing is read here");
    };
    const client = { dialect: "openai", writeRequest, readAnswer } as unknown as ClientHalf;
    const seed: Capability = { parameter: "seed", support: "mapped", how: "" };
    const capable = withCapabilities(client, { capabilities: [seed], strictMembers: false });
    expect([capable.writeRequest, capable.readAnswer]).toEqual([writeRequest, readAnswer]);
    expect(capable.capabilitiesOf?.("m")).toEqual([seed]);
    const other = withCapabilities(client, { capabilities: [seed, unsupportedFor("x*")], strictMembers: false });
    expect(other.capabilitiesOf?.("m")).toEqual([seed]);
    expect(other.capabilitiesOf?.("x1")).toEqual([seed, unsupportedFor("x*")]);
  });
});

test("an answer is read as an answer to what was sent", () => {
  const asked: AnswerInput[] = [];
  const client = {
    dialect: "openai",
    readAnswer(input: AnswerInput) {
      asked.push(input);
      return { failure: undefined, read: () => [], end: () => [] };
    },
  } as unknown as ClientHalf;
  const capable = withCapabilities(client, { capabilities: [unsupportedFor("m")], strictMembers: false });
  const request = chatRequest({ stop: ["x"], seed: 1n });
  const rest = {
    streaming: false,
    route: "r",
    provider: "p",
    nativeStreamUsage: false,
    answerBytesMax: 1,
    newId: (prefix: string) => prefix,
  };
  capable.readAnswer({ ...rest, request, model: "m" });
  capable.readAnswer({ ...rest, request, model: "other" });
  expect(asked.map((input) => input.request)).toEqual([chatRequest({ seed: 1n }), request]);
});

describe("of vectors", () => {
  /** What reaches the dialect of a request for vectors, and what is reported. */
  function embedded(
    init: MessageInitShape<typeof EmbeddingRequestSchema>,
    rows: readonly Capability[],
    strictMembers = false,
    drop = false,
  ) {
    let seen: EmbeddingRequestInput | undefined;
    const half = {
      inputsMax: () => 7,
      writeRequest(input: EmbeddingRequestInput) {
        seen = input;
        return { path: "/", headers: [], body: "", warnings: [] };
      },
    };
    const client = { dialect: "openai", embeddings: half } as unknown as ClientHalf;
    // One row that refuses something, so that there is anything to look at.
    const capable = withCapabilities(client, { capabilities: [...rows, unsupportedFor("x*")], strictMembers }).embeddings;
    const request = create(EmbeddingRequestSchema, { model: "m", inputs: [{ content: { case: "text", value: "a" } }], ...init });
    const written = capable?.writeRequest({ request, model: "m", dropUnsupported: drop });
    expect(capable?.inputsMax("m")).toBe(7);
    return { request, seen: seen?.request, fields: written?.warnings.map(({ field }) => field) };
  }

  test("nothing is changed where nothing is lacking, nor for what was not asked", () => {
    const rows = ["embeddings.dimensions", "embeddings.tokens", "embeddings.user"].map((parameter) => unsupported(parameter));
    const { request, seen, fields } = embedded({}, rows);
    expect(seen).toBe(request);
    expect(fields).toEqual([]);
    expect(embedded({ dimensions: 5, user: "u", extras: [extra("truncate")] }, []).seen).toMatchObject({ dimensions: 5, user: "u" });
  });

  test("what a row says is not there is refused by name, or left out and reported", () => {
    const rows = [unsupported("embeddings.dimensions"), unsupported("embeddings.truncate")];
    expect(refusalOf(() => embedded({ dimensions: 5 }, rows))).toMatchObject({ field: "dimensions" });
    expect(refusalOf(() => embedded({ extras: [extra("truncate")] }, rows))).toMatchObject({ field: "truncate" });
    const { seen, fields } = embedded({ dimensions: 5, extras: [extra("truncate"), extra("kept")] }, rows, false, true);
    expect(seen?.dimensions).toBeUndefined();
    expect(seen?.extras.map(({ path }) => path)).toEqual(["kept"]);
    expect(fields).toEqual(["dimensions", "truncate"]);
  });

  test("a user's name is a hint, so that it is left out at once", () => {
    const { seen, fields } = embedded({ user: "u" }, [unsupported("embeddings.user")]);
    expect(seen?.user).toBe("");
    expect(fields).toEqual(["user"]);
  });

  test("without which there is nothing to ask is never left out", () => {
    const tokens = { inputs: [{ content: { case: "tokens" as const, value: { ids: [1] } } }] };
    expect(refusalOf(() => embedded(tokens, [unsupported("embeddings.tokens")], false, true))).toMatchObject({ field: "inputs.tokens" });
    expect(refusalOf(() => embedded({}, [unsupported("embeddings")], false, true))).toMatchObject({ field: "embeddings" });
  });

  test("a server that refuses members it does not know is sent those alone that a row maps", () => {
    const rows: Capability[] = [{ parameter: "embeddings.output_dtype", support: "mapped", how: "" }];
    expect(embedded({ extras: [extra("output_dtype")] }, rows, true).seen?.extras).toHaveLength(1);
    expect(refusalOf(() => embedded({ extras: [extra("other")] }, rows, true))).toMatchObject({ field: "other" });
    expect(embedded({ extras: [extra("other", "else")] }, rows, true).seen?.extras).toHaveLength(1);
  });
});

/** That a model takes no texts to stop at. */
function unsupportedFor(models: string): Capability {
  return unsupported("stop", models);
}
