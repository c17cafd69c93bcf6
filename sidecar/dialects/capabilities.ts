/**
 * What endpoints and models make of each parameter, as data, and what it means for a request: what a model does not support is refused
 * by name before anything is sent, or left out and reported, as the route's policy says.
 *
 * Servers answer a parameter that they do not know in two ways: with an error in words of their own, or with silence and an answer
 * that is not what was asked. Neither reaches a caller from here.
 */
import { type ChatRequest, ToolMode } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { EmbeddingRequest } from "../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import { matcher } from "../../proto/pattern.ts";
import type { ClientHalf, EmbeddingHalf, EmbeddingRequestInput, WrittenRequest } from "./dialect.ts";
import { onceForModel } from "./onceForModel.ts";
import { Report } from "./report.ts";

/** What becomes of one parameter. */
export interface Capability {
  /**
   * The parameter as the conversation calls it, such as `top_k`, of vectors behind `embeddings.`; or the path, without indexes, of what only a dialect knows, such as
   * `safe_prompt` or `messages[].prefix`, which stands for all below it, too.
   */
  readonly parameter: string;
  /** Sent as the API has it; brought about by other means; or not there. */
  readonly support: "mapped" | "emulated" | "unsupported";
  /** Which models: a name in which `*` stands for anything. All of them if left out. */
  readonly models?: string;
  /** How, or why not, as the rest of a sentence; empty if there is nothing to say. */
  readonly how: string;
}

/** What a provider's row and its operator say of parameters. */
export interface CapabilityOptions {
  /** Of the rows that fit a parameter and a model the first holds. What no row speaks of is supported. */
  readonly capabilities: readonly Capability[];
  /** Whether the server refuses members that it does not know: then of what only its dialect knows nothing is sent but what a row maps. */
  readonly strictMembers: boolean;
}

/** A client half that is asked for nothing that the table says is not there. */
export function withCapabilities(client: ClientHalf, options: CapabilityOptions): ClientHalf {
  const { strictMembers } = options;
  const tableOf = capabilityTable(options.capabilities);
  const capabilitiesOf = (model: string): readonly Capability[] => [...tableOf(model).values()];
  if (!strictMembers && options.capabilities.every(({ support }) => support !== "unsupported")) {
    return Object.freeze({ ...client, capabilitiesOf });
  }
  const { embeddings } = client;
  const support = onceForModel((model) => supportOf(tableOf(model)));
  return Object.freeze({
    ...client,
    capabilitiesOf,
    ...(embeddings === undefined ? {} : { embeddings: embeddingsWithin(embeddings, client.dialect, tableOf, strictMembers) }),
    readAnswer(input) {
      // What was asked decides how an answer is read, and that is what was sent.
      const request = supported(input.request, client.dialect, support(input.model), strictMembers, new Report(input.model, true));
      return client.readAnswer(request === input.request ? input : { ...input, request });
    },
    writeRequest(input) {
      const report = new Report(input.model, input.dropUnsupported);
      const request = supported(input.request, client.dialect, support(input.model), strictMembers, report);
      if (request === input.request) return client.writeRequest(input);
      // The request as it came says what must not be said.
      const written = client.writeRequest({ ...input, request, native: undefined });
      return { ...written, warnings: [...report.warnings, ...written.warnings] };
    },
  } satisfies ClientHalf);
}

/** The same for vectors, whose parameters stand in the table behind `embeddings.`; `embeddings` itself is whether there are any. */
function embeddingsWithin(
  half: EmbeddingHalf,
  dialect: string,
  tableOf: (model: string) => ReadonlyMap<string, Capability>,
  strictMembers: boolean,
): EmbeddingHalf {
  return Object.freeze({
    ...half,
    writeRequest(input: EmbeddingRequestInput): WrittenRequest {
      const report = new Report(input.model, input.dropUnsupported);
      const request = supportedEmbedding(input.request, dialect, tableOf(input.model), strictMembers, report);
      const written = half.writeRequest(request === input.request ? input : { ...input, request });
      return report.warnings.length === 0 ? written : { ...written, warnings: [...report.warnings, ...written.warnings] };
    },
  });
}

/** The request for vectors without what is not supported; the same object if all of it is. */
function supportedEmbedding(
  request: EmbeddingRequest,
  dialect: string,
  table: ReadonlyMap<string, Capability>,
  strictMembers: boolean,
  report: Report,
): EmbeddingRequest {
  const lacking = (name: string): string | undefined => {
    const row = table.get(name);
    return row?.support === "unsupported" ? because(row.how) : undefined;
  };
  const none = lacking("embeddings");
  if (none !== undefined) throw report.refusal("embeddings", none);
  const noTokens = lacking("embeddings.tokens");
  // Never left out: a vector of nothing would stand where one of something was asked for.
  if (noTokens !== undefined && request.inputs.some(({ content }) => content.case === "tokens"))
    throw report.refusal("inputs.tokens", noTokens);
  const fitted = { ...request };
  const noDimensions = request.dimensions === undefined ? undefined : lacking("embeddings.dimensions");
  if (noDimensions !== undefined) {
    report.unsupported("dimensions", noDimensions);
    delete fitted.dimensions;
  }
  const noUser = request.user === "" ? undefined : lacking("embeddings.user");
  if (noUser !== undefined) {
    report.dropped("user", `user was left out: the provider does not take it${noUser}.`);
    fitted.user = "";
  }
  fitted.extras = request.extras.filter((extra) => {
    if (extra.dialect !== dialect) return true;
    const row = table.get(`embeddings.${extra.path}`);
    if (row === undefined ? !strictMembers : row.support !== "unsupported") return true;
    report.unsupported(extra.path, `: ${row?.how ?? "the API refuses members that it does not know"}`);
    return false;
  });
  const changed = noDimensions !== undefined || noUser !== undefined || fitted.extras.length < request.extras.length;
  return changed ? fitted : request;
}

/** Makes what finds the row that holds for each parameter of a model. */
export function capabilityTable(capabilities: readonly Capability[]): (model: string) => ReadonlyMap<string, Capability> {
  const rows = capabilities.map((row) => ({ row, fits: row.models === undefined ? undefined : matcher(row.models) }));
  return onceForModel(function tableOf(model) {
    const table = new Map<string, Capability>();
    for (const { row, fits } of rows) {
      if (!table.has(row.parameter) && (fits === undefined || fits(model))) table.set(row.parameter, row);
    }
    return table;
  });
}

/** What a model makes of parameters: the row of each, and of those rows what it has not got that a request can ask for by itself. */
interface Support {
  readonly table: ReadonlyMap<string, Capability>;
  readonly missing: readonly { readonly name: string; readonly parameter: Parameter; readonly how: string }[];
}

function supportOf(table: ReadonlyMap<string, Capability>): Support {
  const missing: Support["missing"][number][] = [];
  for (const [name, { support, how }] of table) {
    const parameter = support === "unsupported" && Object.hasOwn(parameters, name) ? parameters[name] : undefined;
    if (parameter !== undefined) missing.push({ name, parameter, how });
  }
  return { table, missing };
}

/** The request without what is not supported; the same object if all of it is. */
function supported(
  request: ChatRequest,
  dialect: string,
  { table, missing }: Support,
  strictMembers: boolean,
  report: Report,
): ChatRequest {
  let fitted = request;
  for (const { name, parameter, how } of missing) {
    const asked = parameter.asked(request);
    if (asked === "nothing") continue;
    if (asked === "something") report.unsupported(name, because(how));
    if (fitted === request) fitted = { ...request };
    parameter.forget(fitted);
  }
  if (request.extras.length === 0) return fitted;
  const extras = request.extras.filter((extra) => {
    if (extra.dialect !== dialect) return true;
    const name = extra.path.replace(/\[\d+\]/g, "[]");
    const row = rowOf(name, table);
    if (row === undefined ? !strictMembers : row.support !== "unsupported") return true;
    report.unsupported(extra.path, because(row?.how ?? "the API refuses members that it does not know"));
    return false;
  });
  return extras.length === request.extras.length ? fitted : { ...fitted, extras };
}

/** What is said of a parameter, as the end of a sentence. */
function because(how: string): string {
  return how === "" ? "" : `: ${how}`;
}

/** The row of a path, or of what it is below of. */
function rowOf(path: string, table: ReadonlyMap<string, Capability>): Capability | undefined {
  for (let name = path; ; name = name.slice(0, Math.max(name.lastIndexOf("."), name.lastIndexOf("[")))) {
    const row = table.get(name);
    if (row !== undefined || name === "") return row;
    if (!/[.[]/.test(name)) return undefined;
  }
}

/** One parameter of the conversation. */
interface Parameter {
  /** Whether a request asks for something by it. What every server does anyway needs no support, but is not sent either: `default`. */
  asked(request: ChatRequest): "something" | "default" | "nothing";
  /** Takes it out of a copy. */
  forget(copy: ChatRequest): void;
}

/** A parameter that is a member which may be absent; `usual` is the value that means the same as its absence, if there is one. */
function member<Key extends OptionalKey>(key: Key, usual?: ChatRequest[Key]): Parameter {
  return {
    asked: (request) => (request[key] === undefined ? "nothing" : request[key] === usual ? "default" : "something"),
    forget: (copy) => {
      delete copy[key];
    },
  };
}

type OptionalKey = { [Key in keyof ChatRequest]-?: undefined extends ChatRequest[Key] ? Key : never }[keyof ChatRequest];

/** A form of answer. */
function format(kind: "jsonObject" | "jsonSchema"): Parameter {
  return {
    asked: ({ responseFormat }) => (responseFormat?.format.case === kind ? "something" : "nothing"),
    forget: (copy) => {
      delete copy.responseFormat;
    },
  };
}

const parameters: Readonly<Record<string, Parameter>> = Object.freeze({
  max_output_tokens: member("maxOutputTokens"),
  temperature: member("temperature", 1),
  top_p: member("topP", 1),
  top_k: member("topK"),
  n: member("n", 1),
  seed: member("seed"),
  presence_penalty: member("presencePenalty", 0),
  frequency_penalty: member("frequencyPenalty", 0),
  logprobs: member("logprobs"),
  reasoning: member("reasoning"),
  parallel_tool_calls: member("parallelToolCalls", true),
  "response_format.json_object": format("jsonObject"),
  "response_format.json_schema": format("jsonSchema"),
  stop: {
    asked: ({ stop }) => (stop.length > 0 ? "something" : "nothing"),
    forget: (copy) => {
      copy.stop = [];
    },
  },
  logit_bias: {
    asked: ({ logitBias }) => (Object.keys(logitBias).length > 0 ? "something" : "nothing"),
    forget: (copy) => {
      copy.logitBias = {};
    },
  },
  tools: {
    asked: ({ tools }) => (tools.length > 0 ? "something" : "nothing"),
    forget: (copy) => {
      copy.tools = [];
      delete copy.toolChoice;
      delete copy.parallelToolCalls;
    },
  },
  tool_choice: {
    asked({ toolChoice }) {
      if (toolChoice === undefined) return "nothing";
      return toolChoice.choice.value === ToolMode.AUTO ? "default" : "something";
    },
    forget: (copy) => {
      delete copy.toolChoice;
    },
  },
  user: {
    asked: ({ user }) => (user === "" ? "nothing" : "something"),
    forget: (copy) => {
      copy.user = "";
    },
  },
  service_tier: {
    asked({ serviceTier }) {
      if (serviceTier === "") return "nothing";
      return serviceTier === "auto" || serviceTier === "default" ? "default" : "something";
    },
    forget: (copy) => {
      copy.serviceTier = "";
    },
  },
});
