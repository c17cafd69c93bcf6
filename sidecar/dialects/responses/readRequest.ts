/**
 * Reads a request of the Responses API into the conversation.
 *
 * What the conversation models is read and checked; what it does not becomes extras with its exact text, so that a provider of the same
 * dialect gets it back and any other one can say what it cannot carry. A member that is null says as little as one that is missing. What
 * asks for state that is kept between requests is refused: nothing is kept here.
 */
import { Fault, FaultReason } from "../../../proto/fault.ts";
import type { ChatRequest, ResponseFormat, Tool, ToolChoice } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { ToolMode } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { validateChat } from "../../../proto/validateChat.ts";
import { decodeJson, JsonError, type JsonObject, JsonPlace, parseObject } from "../../framing/json.ts";
import type { ReadRequest } from "../dialect.ts";
import { Field } from "../field.ts";
import { extraPath } from "./extras.ts";
import { readItems } from "./readItems.ts";

/** Reads a body. Throws a fault with reason `REQUEST_INVALID` that names the field, what was expected and what was seen. */
export function readRequest(body: Uint8Array): ReadRequest {
  const { text, top } = open(body);
  const request = new RequestReader(top).read();
  const [broken] = validateChat(request, "");
  if (broken !== undefined) {
    const field = broken.field.replace(/^\./, "");
    throw new Fault(FaultReason.REQUEST_INVALID, `${field} ${broken.message}`, { field, violations: [{ ...broken, field }] });
  }
  const stream = top.member("stream");
  return { request, native: { dialect: "responses", text }, streaming: stream.given && stream.boolean(), streamUsage: true };
}

function open(body: Uint8Array): { text: string; top: Field } {
  let text: string;
  let value: JsonObject;
  try {
    text = decodeJson(body);
    value = parseObject(text);
  } catch (caught) {
    if (!(caught instanceof JsonError)) throw caught;
    throw new Fault(FaultReason.REQUEST_INVALID, `The request body cannot be read: ${caught.message}, at character ${caught.offset}.`, {
      facts: { offset: String(caught.offset) },
    });
  }
  return { text, top: new Field(value, JsonPlace.root(text)) };
}

class RequestReader {
  readonly #top: Field;
  readonly #request: ChatRequest = {
    $typeName: "outrigger.chat.v1.ChatRequest",
    model: "",
    messages: [],
    tools: [],
    stop: [],
    logitBias: {},
    user: "",
    serviceTier: "",
    extras: [],
  };

  constructor(top: Field) {
    this.#top = top;
  }

  read(): ChatRequest {
    const request = this.#request;
    const top = this.#top;
    for (const key of ["model", "input"])
      if (!top.member(key).given) throw top.member(key).refusal(key === "model" ? "a model's name" : "the input");
    readItems(top.member("instructions"), top.member("input"), request);
    for (const key of top.keys()) this.#member(key, top.member(key));
    return request;
  }

  #member(key: string, field: Field): void {
    const request = this.#request;
    switch (key) {
      case "instructions":
      case "input":
      case "stream":
        // Read elsewhere.
        break;
      case "model":
        request.model = field.string();
        if (request.model === "") throw field.broken("must not be empty");
        break;
      case "store":
        if (field.boolean()) throw stateless(field, "store must be false or left out");
        break;
      case "background":
        if (field.boolean()) throw stateless(field, "background must be false or left out");
        break;
      case "previous_response_id":
      case "conversation":
        throw stateless(field, `${key} cannot be used: send the whole conversation as input`);
      case "tools":
        field.elements().forEach((tool, index) => {
          this.#tool(tool, index);
        });
        break;
      case "tool_choice":
        this.#toolChoice(field);
        break;
      case "parallel_tool_calls":
        request.parallelToolCalls = field.boolean();
        break;
      case "text":
        if (field.member("format").given) this.#format(field.member("format"));
        this.#keepRest(field, ["format"], "text.");
        break;
      case "reasoning":
        if (field.member("effort").given) {
          const effort = field.member("effort").string();
          request.reasoning = { $typeName: "outrigger.chat.v1.ReasoningRequest", amount: { case: "effort", value: effort } };
        }
        this.#keepRest(field, ["effort"], "reasoning.");
        break;
      case "max_output_tokens":
        request.maxOutputTokens = field.count();
        break;
      case "temperature":
        request.temperature = field.number(0, Number.MAX_VALUE);
        break;
      case "top_p":
        request.topP = field.number(0, 1);
        break;
      case "include":
        this.#include(field);
        break;
      case "top_logprobs":
        field.number(0, 20);
        // Without the probabilities it asks for nothing that the conversation could say.
        if (!this.#asksLogprobs() && field.value !== 0) this.#keep("", key, field);
        break;
      case "stream_options":
        // That nothing is added to hide the size of pieces is so anyway.
        for (const option of field.keys()) {
          const isPlain = option === "include_obfuscation" && field.member(option).value === false;
          if (!isPlain) this.#keep("stream_options.", option, field.member(option));
        }
        break;
      case "truncation":
        // To cut nothing away is what every provider does that is not asked for it.
        if (field.value !== "disabled") this.#keep("", key, field);
        break;
      case "user":
        request.user = field.string();
        break;
      case "service_tier":
        request.serviceTier = field.string();
        break;
      default:
        this.#keep("", key, field);
    }
  }

  #tool(tool: Field, place: number): void {
    const type = tool.member("type").string();
    if (hostedTools.test(type)) {
      const message = `${JSON.stringify(type)} is a tool that a provider would run itself; this door takes functions`;
      throw tool.member("type").broken(message);
    }
    const { tools } = this.#request;
    if (type !== "function") {
      // A tool of a kind that only this dialect has keeps its place in the list.
      this.#extra(`tools[${place}]`, tool.json());
      return;
    }
    const read: Tool = {
      $typeName: "outrigger.chat.v1.Tool",
      name: tool.member("name").string(),
      description: tool.member("description").given ? tool.member("description").string() : "",
      parametersJson: "",
    };
    const parameters = tool.member("parameters");
    if (parameters.given) {
      parameters.object();
      read.parametersJson = parameters.json();
    }
    if (tool.member("strict").given) read.strict = tool.member("strict").boolean();
    const index = tools.push(read) - 1;
    this.#keepRest(tool, ["type", "name", "description", "parameters", "strict"], `tools[${index}].`);
  }

  #toolChoice(field: Field): void {
    const choose = (choice: ToolChoice["choice"]): void => {
      this.#request.toolChoice = { $typeName: "outrigger.chat.v1.ToolChoice", choice };
    };
    if (typeof field.value === "string") {
      const mode = toolModes.get(field.value);
      if (mode === undefined) throw field.unknownWord('"none", "auto", "required" or an object');
      choose({ case: "mode", value: mode });
      return;
    }
    const type = field.member("type").string();
    if (hostedTools.test(type))
      throw field.member("type").broken("names a tool that a provider would run itself; this door takes functions");
    if (type === "function" && field.keys().length === 2) choose({ case: "tool", value: field.member("name").string() });
    else this.#keep("", "tool_choice", field);
  }

  #format(field: Field): void {
    const choose = (format: ResponseFormat["format"]): void => {
      this.#request.responseFormat = { $typeName: "outrigger.chat.v1.ResponseFormat", format };
    };
    switch (field.member("type").string()) {
      case "text":
        choose({ case: "text", value: { $typeName: "outrigger.chat.v1.TextFormat" } });
        this.#keepRest(field, ["type"], "text.format.");
        break;
      case "json_object":
        choose({ case: "jsonObject", value: { $typeName: "outrigger.chat.v1.JsonObjectFormat" } });
        this.#keepRest(field, ["type"], "text.format.");
        break;
      case "json_schema": {
        const { name, description, strict } = {
          name: field.member("name"),
          description: field.member("description"),
          strict: field.member("strict"),
        };
        field.member("schema").object();
        choose({
          case: "jsonSchema",
          value: {
            $typeName: "outrigger.chat.v1.JsonSchemaFormat",
            name: name.given ? name.string() : "",
            description: description.given ? description.string() : "",
            schemaJson: field.member("schema").json(),
            ...(strict.given ? { strict: strict.boolean() } : {}),
          },
        });
        this.#keepRest(field, ["type", "name", "description", "schema", "strict"], "text.format.");
        break;
      }
      default:
        // A form that only this dialect knows, such as a grammar.
        this.#keep("text.", "format", field);
    }
  }

  #asksLogprobs(): boolean {
    const { value } = this.#top.member("include");
    return Array.isArray(value) && value.includes(LOGPROBS);
  }

  #include(field: Field): void {
    const rest: string[] = [];
    for (const element of field.elements()) {
      const name = element.string();
      if (name === LOGPROBS) {
        const top = this.#top.member("top_logprobs");
        this.#request.logprobs = { $typeName: "outrigger.chat.v1.LogprobsRequest", top: top.given ? Math.trunc(top.number(0, 20)) : 0 };
      } else if (name !== SEALED_THINKING) rest.push(name);
      // Sealed thinking is always given back, since nothing is kept here.
    }
    if (rest.length > 0) this.#extra("include", JSON.stringify(rest));
  }

  #keepRest(field: Field, known: readonly string[], container: string): void {
    for (const key of field.keys()) if (!known.includes(key)) this.#keep(container, key, field.member(key));
  }

  #keep(container: string, member: string, field: Field): void {
    this.#extra(extraPath(container, member), field.json());
  }

  #extra(path: string, json: string): void {
    this.#request.extras.push({ $typeName: "outrigger.chat.v1.Extra", dialect: "responses", path, json });
  }
}

const LOGPROBS = "message.output_text.logprobs";
const SEALED_THINKING = "reasoning.encrypted_content";

/** Tools that reach out from wherever the model is, past all that guards what leaves here. */
const hostedTools = /^(?:web_search|file_search|code_interpreter|image_generation|mcp$)/;

const toolModes: ReadonlyMap<string, ToolMode> = new Map([
  ["none", ToolMode.NONE],
  ["auto", ToolMode.AUTO],
  ["required", ToolMode.REQUIRED],
]);

function stateless(field: Field, what: string): Fault {
  return field.broken(`this door is stateless, and keeps no answers between requests: ${what}`);
}
