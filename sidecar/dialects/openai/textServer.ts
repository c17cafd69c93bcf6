/**
 * The older form of this API, in which a model goes on with a text (https://platform.openai.com/docs/api-reference/completions), as a door
 * speaks it. A text becomes a message that is marked as one; what only models of texts know becomes an extra that only these get.
 */
import type { Batch } from "../../../proto/chat.ts";
import { Fault, FaultReason } from "../../../proto/fault.ts";
import {
  type ChatRequest,
  type Message,
  type Part,
  Role,
  type TokenLogprob,
  type Usage,
} from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { decodeJson, JsonError, JsonPlace, type JsonValue, parseObject, stringify } from "../../framing/json.ts";
import type { AnswerWriter, ReadRequest, ServerHalf } from "../dialect.ts";
import { Field } from "../field.ts";
import { writeFinishReason } from "./finishReasons.ts";
import { writeUsage } from "./usage.ts";
import { writeFault, writeStreamFault } from "./writeFault.ts";

/** The dialect by which extras of this form are known: no request of the newer form has a place for them. */
export const TEXT_DIALECT = "completions";

/** The half that a door uses. */
export const openAiTextServer: ServerHalf = Object.freeze({
  dialect: TEXT_DIALECT,
  readRequest: (body: Uint8Array) => readRequest(body),
  writeAnswer: (read: ReadRequest, requestId: string) =>
    read.streaming ? new StreamWriter(read, requestId) : new BodyWriter(read, requestId),
  writeFault,
  ownField,
});

/** The caller's name of a field that the conversation knows under another. */
function ownField(field: string, body: string): string {
  if (field === "max_output_tokens") return "max_tokens";
  if (field === "raw_prompt") return "prompt";
  if (!/^messages(\[|$)/.test(field)) return field;
  const [, number] = /^messages\[(\d+)\]/.exec(field) ?? [];
  const { prompt } = parseObject(body);
  const several = Array.isArray(prompt) && typeof prompt[0] !== "number";
  return number === undefined || !several ? "prompt" : `prompt[${number}]`;
}

function readRequest(body: Uint8Array): ReadRequest {
  const { root, text } = readRoot(body);
  const request: ChatRequest = {
    $typeName: "outrigger.chat.v1.ChatRequest",
    model: "",
    messages: [],
    tools: [],
    stop: [],
    logitBias: {},
    user: "",
    serviceTier: "",
    extras: [],
    rawPrompt: true,
  };
  let streaming = false;
  let streamUsage = false;
  for (const key of root.keys()) {
    const field = root.member(key);
    switch (key) {
      case "model":
        request.model = boundedText(field, 512);
        if (request.model === "") throw field.broken("expected the name of a model, saw an empty string");
        break;
      case "prompt":
        request.messages = readPrompts(field);
        break;
      case "max_tokens":
        request.maxOutputTokens = field.count();
        break;
      case "temperature":
        request.temperature = field.number(0, Number.MAX_VALUE);
        break;
      case "top_p":
        request.topP = field.number(0, 1);
        break;
      case "n":
        request.n = Number(field.count());
        if (request.n < 1 || request.n > 128) throw field.broken("expected a whole number from 1 to 128");
        break;
      case "stop":
        request.stop =
          typeof field.value === "string" ? [field.value] : field.elements("a text or a list of texts").map((stop) => stop.string());
        if (request.stop.length > 64) throw field.broken("expected at most 64 texts");
        break;
      case "seed":
        request.seed = BigInt(Math.trunc(field.number(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)));
        break;
      case "presence_penalty":
        request.presencePenalty = field.number(-Number.MAX_VALUE, Number.MAX_VALUE);
        break;
      case "frequency_penalty":
        request.frequencyPenalty = field.number(-Number.MAX_VALUE, Number.MAX_VALUE);
        break;
      case "logit_bias":
        for (const token of field.keys()) {
          Object.defineProperty(request.logitBias, token, {
            value: field.member(token).number(-Number.MAX_VALUE, Number.MAX_VALUE),
            enumerable: true,
            configurable: true,
            writable: true,
          });
        }
        break;
      case "logprobs":
        // Zero asks for the tokens alone.
        request.logprobs = { $typeName: "outrigger.chat.v1.LogprobsRequest", top: field.number(0, 20) };
        break;
      case "user":
        request.user = boundedText(field, 1024);
        break;
      case "stream":
        streaming = field.boolean();
        break;
      case "stream_options":
        streamUsage = field.member("include_usage").given && field.member("include_usage").boolean();
        break;
      default:
        // What means the same as its absence is nothing that a model of another kind would have to obey.
        if (usual.get(key) === field.value) break;
        if (request.extras.length === extrasMax) throw field.broken("there are too many members that are not known");
        request.extras.push({ $typeName: "outrigger.chat.v1.Extra", dialect: TEXT_DIALECT, path: field.path, json: field.json() });
    }
  }
  if (request.model === "") throw root.member("model").refusal("the name of a model");
  if (request.messages.length === 0) throw root.member("prompt").refusal(promptForms);
  return { request, native: { dialect: TEXT_DIALECT, text }, streaming, streamUsage: streaming && streamUsage };
}

const extrasMax = 1024; // as in the conversation's own rules
const promptsMax = 1024; // more texts in one request than any server takes
const promptForms = "a text, a list of texts, a list of tokens or a list of such lists";
const usual: ReadonlyMap<string, unknown> = new Map<string, unknown>([
  ["echo", false],
  ["best_of", 1],
  ["suffix", ""],
]);

function readRoot(body: Uint8Array): { readonly root: Field; readonly text: string } {
  try {
    const text = decodeJson(body);
    return { root: new Field(parseObject(text), JsonPlace.root(text)), text };
  } catch (caught) {
    if (!(caught instanceof JsonError)) throw caught;
    throw new Fault(FaultReason.REQUEST_INVALID, `The request body cannot be read: ${caught.message}, at character ${caught.offset}.`, {
      facts: { offset: String(caught.offset) },
    });
  }
}

function readPrompts(field: Field): Message[] {
  if (typeof field.value === "string") return [textMessage(field.value)];
  const elements = field.elements(promptForms);
  if (elements.length === 0) throw field.broken("expected at least one text, saw an empty list");
  if (typeof elements[0]?.value === "number") return [tokenMessage(field)];
  if (elements.length > promptsMax) throw field.broken(`expected at most ${promptsMax} texts, saw ${elements.length}`);
  return elements.map((element) => (typeof element.value === "string" ? textMessage(element.value) : tokenMessage(element)));
}

function textMessage(text: string): Message {
  return message({ case: "text", value: { $typeName: "outrigger.chat.v1.Text", text } });
}

/** Tokens mean something to one vocabulary alone. */
function tokenMessage(field: Field): Message {
  for (const token of field.elements(promptForms)) {
    if (typeof token.value !== "number" || !Number.isInteger(token.value) || token.value < 0) throw token.refusal("a token's number");
  }
  return message({
    case: "extra",
    value: { $typeName: "outrigger.chat.v1.Extra", dialect: TEXT_DIALECT, path: field.path, json: field.json() },
  });
}

function message(content: Part["content"]): Message {
  return { $typeName: "outrigger.chat.v1.Message", role: Role.USER, parts: [{ $typeName: "outrigger.chat.v1.Part", content }], name: "" };
}

/** A string of at most so many bytes of UTF-8. */
function boundedText(field: Field, bytesMax: number): string {
  const text = field.string();
  if (text.length * 3 > bytesMax && Buffer.byteLength(text) > bytesMax) throw field.broken(`expected at most ${bytesMax} bytes`);
  return text;
}

/** What is the same in all objects of one answer. */
class Envelope {
  readonly #fallback: Pick<Answer, "id" | "model">;
  #start: Answer | undefined;

  constructor({ request }: ReadRequest, requestId: string) {
    this.#fallback = { id: requestId, model: request.model };
  }

  begin({ id, created, model }: Answer): void {
    this.#start = { id: id || this.#fallback.id, created, model };
  }

  members(): { readonly [member: string]: JsonValue } {
    const { id, created, model } = this.#start ?? { ...this.#fallback, created: 0n };
    return { id, object: "text_completion", created, model };
  }
}

interface Answer {
  readonly id: string;
  readonly created: bigint;
  readonly model: string;
}

/** Token probabilities in the older form: four lists side by side. */
class Likelihoods {
  readonly #tokens: TokenLogprob[] = [];

  add(tokens: readonly TokenLogprob[]): void {
    this.#tokens.push(...tokens);
  }

  /** Of tokens whose text begins at `offset` of the answer; null where there are none. */
  write(offset: number): JsonValue {
    if (this.#tokens.length === 0) return null;
    let at = offset;
    const offsets = this.#tokens.map(({ token }) => {
      const begins = at;
      at += token.length;
      return begins;
    });
    return {
      tokens: this.#tokens.map(({ token }) => token),
      token_logprobs: this.#tokens.map(({ logprob }) => logprob),
      top_logprobs: this.#tokens.map(({ top }) => Object.fromEntries(top.map(({ token, logprob }) => [token, logprob]))),
      text_offset: offsets,
    };
  }
}

/** What of answers has no place here, in words for whoever runs the sidecar; a chat can think and call tools, a text cannot. */
function lostOf(event: ChatEvent["event"]): string | undefined {
  switch (event.case) {
    case "reasoning":
      return "thinking";
    case "toolCall":
      return "tool calls";
    case "citation":
      return "citations";
    case "extra":
      return event.value.extra === undefined ? undefined : `${event.value.extra.dialect} ${event.value.extra.path}`;
    default:
      return undefined;
  }
}

/** Gathers what was lost of one answer; holds nothing as long as nothing is. */
class Losses {
  found: Set<string> | undefined;

  look(event: ChatEvent["event"]): void {
    const lost = lostOf(event);
    if (lost === undefined) return;
    this.found ??= new Set();
    this.found.add(lost);
  }
}

/** One answer to one text, as far as it is. */
class Choice {
  text = "";
  finish: string | null = null;
  readonly likelihoods = new Likelihoods();
}

class BodyWriter implements AnswerWriter {
  readonly #envelope: Envelope;
  readonly #losses = new Losses();
  readonly #choices = new Map<number, Choice>();
  #usage: Usage | undefined;

  constructor(read: ReadRequest, requestId: string) {
    this.#envelope = new Envelope(read, requestId);
  }

  get lost(): ReadonlySet<string> | undefined {
    return this.#losses.found;
  }

  write(batch: Batch): undefined {
    for (const { event } of batch) this.#add(event);
    return undefined;
  }

  end(): string {
    const choices = [...this.#choices].sort(([one], [other]) => one - other);
    return stringify({
      ...this.#envelope.members(),
      choices: choices.map(([index, { text, finish, likelihoods }]) => ({
        text,
        index,
        logprobs: likelihoods.write(0),
        finish_reason: finish,
      })),
      usage: this.#usage === undefined ? undefined : writeUsage(this.#usage),
    });
  }

  fault(fault: Fault): string {
    return writeFault(fault);
  }

  #add(event: ChatEvent["event"]): void {
    switch (event.case) {
      case "start":
        this.#envelope.begin(event.value);
        break;
      case "text":
      case "refusal":
        this.#choice(event.value.choice).text += event.value.text;
        break;
      case "logprobs":
        this.#choice(event.value.choice).likelihoods.add(event.value.content);
        break;
      case "finish":
        this.#choice(event.value.choice).finish = writeFinishReason(event.value.reason, false);
        break;
      case "usage":
        this.#usage = event.value;
        break;
      default:
        // The form has text alone; warnings are told in headers.
        this.#losses.look(event);
        break;
    }
  }

  #choice(index: number): Choice {
    let choice = this.#choices.get(index);
    if (choice === undefined) {
      choice = new Choice();
      this.#choices.set(index, choice);
    }
    return choice;
  }
}

class StreamWriter implements AnswerWriter {
  readonly #envelope: Envelope;
  readonly #showUsage: boolean;
  readonly #losses = new Losses();
  /** How much text each choice has so far, for the places of tokens. */
  readonly #lengths = new Map<number, number>();
  #usage: Usage | undefined;

  constructor(read: ReadRequest, requestId: string) {
    this.#envelope = new Envelope(read, requestId);
    this.#showUsage = read.streamUsage;
  }

  get lost(): ReadonlySet<string> | undefined {
    return this.#losses.found;
  }

  write(batch: Batch): string | undefined {
    let written = "";
    for (let i = 0; i < batch.length; i++) {
      const event = batch[i]?.event;
      const next = batch[i + 1]?.event;
      if (event?.case === "text" && next?.case === "logprobs" && next.value.choice === event.value.choice) {
        // Token probabilities belong to the chunk of their text.
        written += this.#chunk(event.value.choice, event.value.text, next.value.content, null);
        i++;
      } else if (event !== undefined) written += this.#event(event);
    }
    return written === "" ? undefined : written;
  }

  end(): string {
    if (!this.#showUsage || this.#usage === undefined) return DONE;
    return `data: ${stringify({ ...this.#envelope.members(), choices: [], usage: writeUsage(this.#usage) })}\n\n${DONE}`;
  }

  fault(fault: Fault): string {
    return writeStreamFault(fault);
  }

  #event(event: ChatEvent["event"]): string {
    switch (event.case) {
      case "start":
        this.#envelope.begin(event.value);
        return "";
      case "text":
      case "refusal":
        return this.#chunk(event.value.choice, event.value.text, [], null);
      case "logprobs":
        return this.#chunk(event.value.choice, "", event.value.content, null);
      case "finish":
        return this.#chunk(event.value.choice, "", [], writeFinishReason(event.value.reason, false));
      case "usage":
        this.#usage = event.value;
        return "";
      case "heartbeat":
        return PING;
      default:
        // The form has text alone; warnings are told in headers.
        this.#losses.look(event);
        return "";
    }
  }

  #chunk(index: number, text: string, tokens: readonly TokenLogprob[], finish: string | null): string {
    const length = this.#lengths.get(index) ?? 0;
    this.#lengths.set(index, length + text.length);
    const likelihoods = new Likelihoods();
    likelihoods.add(tokens);
    const choice = { text, index, logprobs: likelihoods.write(length), finish_reason: finish };
    return `data: ${stringify({ ...this.#envelope.members(), choices: [choice], usage: this.#showUsage ? null : undefined })}\n\n`;
  }
}

const DONE = "data: [DONE]\n\n";
const PING = ": ping\n\n";
