/**
 * Writes answers: a whole body, or a stream of chunks.
 *
 * Batches that still carry bytes of this dialect are written as those bytes, which keeps what the conversation does not model. What a
 * filter changed, or another dialect brought, is written from its events.
 */
import { type Batch, Collector } from "../../../proto/chat.ts";
import type { Fault } from "../../../proto/fault.ts";
import type { Extra, Part, TokenLogprob, ToolCall, Usage } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatChoice, ChatEvent, ChatStart, Citation, LogprobsDelta } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { type JsonValue, RawJson, stringify } from "../../framing/json.ts";
import type { AnswerWriter } from "../dialect.ts";
import { writeFinishReason } from "./finishReasons.ts";
import type { OpenAiRequest } from "./readRequest.ts";
import { writeReasoningDetail } from "./reasoningDetails.ts";
import { writeUsage } from "./usage.ts";
import { writeFault, writeStreamFault } from "./writeFault.ts";

/** Begins an answer. `requestId` names it where the provider gave no id. */
export function writeAnswer(read: OpenAiRequest, requestId: string): AnswerWriter {
  return read.streaming ? new StreamWriter(read, requestId) : new BodyWriter(read, requestId);
}

class StreamWriter implements AnswerWriter {
  lost: Set<string> | undefined;
  readonly #showUsage: boolean;
  readonly #functionCalls: boolean;
  /** A chunk up to its choice's number, and from behind its finish reason on. */
  #head: string;
  readonly #tail: string;
  #id: string;
  #envelope: string;
  readonly #choices = new Map<number, ChoiceProgress>();
  #usage: Usage | undefined;

  constructor(read: OpenAiRequest, requestId: string) {
    this.#showUsage = read.streamUsage;
    this.#functionCalls = read.functionCalls;
    this.#tail = read.streamUsage ? ',"usage":null}\n\n' : "}\n\n";
    this.#id = requestId;
    this.#envelope = envelope(requestId, 0n, read.request.model);
    this.#head = `${this.#envelope},"choices":[{"index":`;
  }

  write(batch: Batch): Uint8Array | string | undefined {
    const { native } = batch;
    // A caller of the deprecated form may have been answered in the present one: its chunks are always written anew.
    if (native?.dialect === "openai" && native.form === "frames" && !this.#functionCalls) {
      for (let i = 0; i < batch.length; i++) this.#note(batch[i]);
      return native.bytes;
    }
    let written = "";
    for (let i = 0; i < batch.length; i++) {
      const { event } = batch[i] ?? nothing;
      const next = batch[i + 1]?.event;
      if (event.case === "text" && next?.case === "logprobs" && next.value.choice === event.value.choice) {
        // Token probabilities belong to the chunk of their text.
        written += this.#chunk(event.value.choice, { content: event.value.text }, next.value);
        i++;
      } else written += this.#event(event);
    }
    return written === "" ? undefined : written;
  }

  end(): string {
    const usage = this.#usage;
    if (!this.#showUsage || usage === undefined) return DONE;
    return `${this.#envelope},"choices":[],"usage":${stringify(writeUsage(usage))}}\n\n${DONE}`;
  }

  fault(fault: Fault): string {
    return writeStreamFault(fault);
  }

  /** Remembers of an event that was passed on as bytes what later chunks must agree with. */
  #note(passed: ChatEvent | undefined): void {
    const event = passed?.event;
    switch (event?.case) {
      case "start":
        this.#start(event.value);
        break;
      case "usage":
        // Its frame was among the bytes.
        this.#usage = undefined;
        break;
      case "text":
      case "reasoning":
      case "refusal":
      case "toolCall":
        if (!this.#choices.has(event.value.choice)) this.#progress(event.value.choice).named = true;
        break;
      default:
        break;
    }
  }

  #start(start: ChatStart): void {
    this.#id = start.id || this.#id;
    this.#envelope = envelope(this.#id, start.created, start.model);
    this.#head = `${this.#envelope},"choices":[{"index":`;
  }

  #event(event: ChatEvent["event"]): string {
    switch (event.case) {
      case "start":
        this.#start(event.value);
        return "";
      case "text":
        return this.#text(event.value.choice, event.value.text);
      case "refusal":
        return this.#chunk(event.value.choice, { refusal: event.value.text });
      case "reasoning":
        return this.#reasoning(event.value);
      case "toolCall":
        return this.#toolCall(event.value);
      case "citation":
        return this.#chunk(event.value.choice, { annotations: [annotation(event.value, this.#progress(event.value.choice).characters)] });
      case "logprobs":
        return this.#chunk(event.value.choice, {}, event.value);
      case "finish":
        return this.#chunk(event.value.choice, {}, undefined, writeFinishReason(event.value.reason, this.#functionCalls));
      case "usage":
        this.#usage = event.value;
        return "";
      case "heartbeat":
        return PING;
      case "extra":
        return this.#extra(event.value.choice, event.value.extra);
      default:
        // Warnings are told in headers; decisions and costs have no place here.
        return "";
    }
  }

  /** A piece of text, which is what nearly all chunks are: written without a tree of its members. */
  #text(choice: number, text: string): string {
    const progress = this.#progress(choice);
    if (!progress.named) return this.#chunk(choice, { content: text });
    progress.characters += text.length;
    return `${this.#head}${choice},"delta":{"content":${JSON.stringify(text)}},"logprobs":null,"finish_reason":null}]${this.#tail}`;
  }

  #reasoning(value: { choice: number; block: number; text: string; signature: string; redacted: string; dialect: string }): string {
    const { choice, block, text, signature, redacted, dialect } = value;
    const { blocks } = this.#progress(choice);
    const known = blocks[block] ?? { text: "", signature: "", redacted: "", dialect };
    known.text += text;
    known.signature += signature;
    known.redacted += redacted;
    // Only the piece with the seal need say whose it is.
    if (dialect !== "") known.dialect = dialect;
    blocks[block] = known;
    const chunk = text === "" ? "" : this.#chunk(choice, { reasoning_content: text });
    if (signature === "" && redacted === "") return chunk;
    return chunk + this.#chunk(choice, { reasoning_details: reasoningDetails(blocks) });
  }

  #toolCall(value: { choice: number; index: number; id: string; name: string; argumentsJson: string }): string {
    const { choice, index, id, name, argumentsJson } = value;
    const first = id !== "";
    if (this.#functionCalls && index === 0) {
      return this.#chunk(choice, { function_call: first ? { name, arguments: argumentsJson } : { arguments: argumentsJson } });
    }
    const call = first
      ? { index, id, type: "function", function: { name, arguments: argumentsJson } }
      : { index, function: { arguments: argumentsJson } };
    return this.#chunk(choice, { tool_calls: [call] });
  }

  #extra(choice: number, extra: Extra | undefined): string {
    if (extra === undefined) return "";
    if (extra.dialect !== "openai") {
      this.lost ??= new Set();
      this.lost.add(`${extra.dialect} ${extra.path}`);
      return "";
    }
    const value = rawLine(extra.json);
    return this.#chunk(choice, { [extra.path]: extra.path === "audio" ? value : [value] });
  }

  #chunk(choice: number, delta: Delta, logprobs?: LogprobsDelta, finish?: string): string {
    const progress = this.#progress(choice);
    if (typeof delta.content === "string") progress.characters += delta.content.length;
    let words = stringify(delta);
    if (!progress.named) {
      progress.named = true;
      // The first piece of a choice says who speaks, and that there is no text where a call comes first.
      const silent = delta.tool_calls !== undefined || delta.function_call !== undefined ? '"content":null' : '"content":""';
      const opening = delta.content === undefined ? `"role":"assistant",${silent}` : '"role":"assistant"';
      words = words === "{}" ? `{${opening}}` : `{${opening},${words.slice(1)}`;
    }
    const probabilities = logprobs === undefined ? "null" : stringify(writeLogprobs(logprobs));
    const reason = finish === undefined ? "null" : JSON.stringify(finish);
    return `${this.#head}${choice},"delta":${words},"logprobs":${probabilities},"finish_reason":${reason}}]${this.#tail}`;
  }

  #progress(choice: number): ChoiceProgress {
    let progress = this.#choices.get(choice);
    if (progress === undefined) {
      progress = { named: false, characters: 0, blocks: [] };
      this.#choices.set(choice, progress);
    }
    return progress;
  }
}

/** How far the writing of one choice is. */
interface ChoiceProgress {
  /** Whether it was said who speaks. */
  named: boolean;
  /** Of text so far, for the places of citations. */
  characters: number;
  readonly blocks: ThinkingBlock[];
}

interface ThinkingBlock {
  text: string;
  signature: string;
  redacted: string;
  dialect: string;
}

type Delta = { readonly [member: string]: JsonValue | undefined };

class BodyWriter implements AnswerWriter {
  lost: Set<string> | undefined;
  readonly #functionCalls: boolean;
  readonly #requestId: string;
  readonly #collector = new Collector();
  #body: Uint8Array | undefined;

  constructor(read: OpenAiRequest, requestId: string) {
    this.#functionCalls = read.functionCalls;
    this.#requestId = requestId;
  }

  write(batch: Batch): undefined {
    const { native } = batch;
    if (native?.dialect === "openai" && native.form === "body" && !this.#functionCalls) this.#body = native.bytes;
    else this.#collector.add(batch);
  }

  end(): Uint8Array | string {
    if (this.#body !== undefined) return this.#body;
    const { response } = this.#collector;
    return stringify({
      id: response.id || this.#requestId,
      object: "chat.completion",
      created: response.created,
      model: response.model,
      choices: response.choices.map((choice) => this.#choice(choice)),
      usage: response.usage === undefined ? undefined : writeUsage(response.usage),
    });
  }

  fault(fault: Fault): string {
    return writeFault(fault);
  }

  #choice(choice: ChatChoice): JsonValue {
    return {
      index: choice.index,
      message: this.#message(choice, choice.message?.parts ?? []),
      logprobs: choice.logprobs === undefined ? null : writeLogprobs(choice.logprobs),
      finish_reason: writeFinishReason(choice.finishReason, this.#functionCalls),
    };
  }

  #message(choice: ChatChoice, parts: readonly Part[]): JsonValue {
    const text = parts.flatMap(({ content }) => (content.case === "text" ? [content.value.text] : []));
    const refusal = parts.flatMap(({ content }) => (content.case === "refusal" ? [content.value.text] : []));
    const thinking = parts.flatMap(({ content }) => (content.case === "reasoning" ? [content.value] : []));
    const thoughts = thinking.map((block) => block.text).join("");
    const calls = parts.flatMap(({ content }) => (content.case === "toolCall" ? [content.value] : []));
    const extras = parts.flatMap(({ content }) => (content.case === "extra" && content.value.dialect === "openai" ? [content.value] : []));
    for (const { content } of parts) {
      if (content.case === "extra" && content.value.dialect !== "openai") {
        this.lost ??= new Set();
        this.lost.add(`${content.value.dialect} ${content.value.path}`);
      }
    }
    const [functionCall] = this.#functionCalls ? calls.splice(0, 1) : [];
    const toolCalls = [...calls.map(writeToolCall), ...extrasAt(extras, "tool_calls")];
    const silent = text.length === 0 && (toolCalls.length > 0 || functionCall !== undefined || refusal.length > 0);
    const sealed = thinking.some((block) => block.signature !== "" || block.redacted !== "");
    return {
      role: "assistant",
      content: silent ? null : text.join(""),
      refusal: refusal.length === 0 ? null : refusal.join(""),
      reasoning_content: thoughts === "" ? undefined : thoughts,
      reasoning_details: sealed ? reasoningDetails(thinking) : undefined,
      annotations:
        choice.citations.length === 0 ? undefined : choice.citations.map((citation) => annotation(citation, text.join("").length)),
      tool_calls: toolCalls.length === 0 ? undefined : toolCalls,
      function_call: functionCall === undefined ? undefined : { name: functionCall.name, arguments: functionCall.argumentsJson },
      audio: extrasAt(extras, "audio")[0],
    };
  }
}

const nothing: Pick<ChatEvent, "event"> = { event: { case: undefined } };
const DONE = "data: [DONE]\n\n";
const PING = ": ping\n\n";

/** A chunk's members that are the same for the whole answer. */
function envelope(id: string, created: bigint, model: string): string {
  return `data: {"id":${JSON.stringify(id)},"object":"chat.completion.chunk","created":${created},"model":${JSON.stringify(model)}`;
}

function writeToolCall(call: ToolCall): JsonValue {
  return { id: call.id, type: "function", function: { name: call.name, arguments: call.argumentsJson || "{}" } };
}

function reasoningDetails(blocks: readonly ThinkingBlock[]): JsonValue {
  return blocks.flatMap((block, index) => (block.signature === "" && block.redacted === "" ? [] : [writeReasoningDetail(block, index)]));
}

function extrasAt(extras: readonly Extra[], path: string): RawJson[] {
  return extras.filter((extra) => extra.path === path).map((extra) => rawLine(extra.json));
}

/** JSON text in one line: in a frame a line end would end the data, and in JSON line ends are blanks. */
function rawLine(json: string): RawJson {
  return new RawJson(json.replace(/[\r\n]+/g, " "));
}

/** A citation in this dialect; where another dialect brought it, it stands for the text up to there. */
function annotation(citation: Citation, characters: number): JsonValue {
  if (citation.native?.dialect === "openai") return rawLine(citation.native.json);
  const { url, title } = citation;
  return { type: "url_citation", url_citation: { start_index: characters, end_index: characters, url, title } };
}

function writeLogprobs(logprobs: LogprobsDelta): JsonValue {
  return {
    content: logprobs.content.length === 0 ? null : logprobs.content.map(writeToken),
    refusal: logprobs.refusal.length === 0 ? null : logprobs.refusal.map(writeToken),
  };
}

function writeToken(token: TokenLogprob): JsonValue {
  return { ...writeAlternative(token), top_logprobs: token.top.map(writeAlternative) };
}

function writeAlternative(token: TokenLogprob): { readonly [key: string]: JsonValue } {
  return { token: token.token, logprob: token.logprob, bytes: token.bytes === undefined ? null : Array.from(token.bytes) };
}
