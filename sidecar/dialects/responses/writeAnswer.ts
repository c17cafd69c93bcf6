/**
 * Writes answers: a whole body, or a stream of events
 * (https://platform.openai.com/docs/api-reference/responses-streaming).
 *
 * An answer that comes in this dialect and that nobody changed goes out byte for byte. What a filter changed, or another dialect brought, is
 * written from its events; should an answer change in the middle, the rest goes on where the bytes ended.
 */
import type { Batch } from "../../../proto/chat.ts";
import type { Fault } from "../../../proto/fault.ts";
import { FinishReason, type Usage } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent, ChatStart, ChoiceFinish } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { type JsonValue, memberSpans, stringify } from "../../framing/json.ts";
import type { AnswerWriter, ReadRequest } from "../dialect.ts";
import { errorObject } from "../errorObject.ts";
import { ItemWriter, rawLine } from "./itemWriter.ts";
import { PassedEvents } from "./passedEvents.ts";
import { writeUsage } from "./usage.ts";
import { writeFault } from "./writeFault.ts";

/** Begins an answer to a request. `requestId` names it where the provider gave no id. */
export function writeAnswer(read: ReadRequest, requestId: string): AnswerWriter {
  return read.streaming ? new StreamWriter(read, requestId) : new BodyWriter(read, requestId);
}

/** What is known of an answer beside its items. */
class Outcome {
  readonly #read: ReadRequest;
  readonly #requestId: string;
  #start: ChatStart | undefined;
  #usage: Usage | undefined;
  #finish: ChoiceFinish | undefined;
  #echo: { readonly [member: string]: JsonValue } | undefined;

  constructor(read: ReadRequest, requestId: string) {
    this.#read = read;
    this.#requestId = requestId;
  }

  /** Takes in what is no content of the answer. */
  take({ event }: ChatEvent): void {
    switch (event.case) {
      case "start":
        this.#start = event.value;
        break;
      case "usage":
        this.#usage = event.value;
        break;
      case "finish":
        if (event.value.choice === 0) this.#finish = event.value;
        break;
      default:
        break;
    }
  }

  /** The state in which the answer ends. */
  get status(): "completed" | "incomplete" {
    const reason = this.#finish?.reason;
    return reason === FinishReason.LENGTH || reason === FinishReason.CONTENT_FILTER ? "incomplete" : "completed";
  }

  /** The answer as an object. What was asked stands in it again, as callers know it from this API. */
  response(status: string, output: readonly JsonValue[], error: JsonValue = null): JsonValue {
    const isOver = status !== "in_progress";
    const reason = this.#finish?.reason === FinishReason.CONTENT_FILTER ? "content_filter" : "max_output_tokens";
    this.#echo ??= echoOf(this.#read);
    return {
      id: this.#start?.id || `resp_${this.#requestId}`,
      object: "response",
      created_at: this.#start?.created ?? 0n,
      status,
      background: false,
      error,
      incomplete_details: status === "incomplete" ? { reason } : null,
      model: this.#start?.model || this.#read.request.model,
      output,
      previous_response_id: null,
      store: false,
      ...this.#echo,
      usage: isOver ? writeUsage(this.#usage) : null,
    };
  }
}

class BodyWriter implements AnswerWriter {
  readonly #outcome: Outcome;
  readonly #items: ItemWriter;
  /** The one batch whose bytes are the whole answer. */
  #body: Batch | undefined;
  /** Whether batches beside it said anything. */
  #changed = false;

  get lost(): ReadonlySet<string> | undefined {
    return this.#items.lost;
  }

  constructor(read: ReadRequest, requestId: string) {
    this.#outcome = new Outcome(read, requestId);
    this.#items = new ItemWriter(requestId);
  }

  write(batch: Batch): undefined {
    if (batch.native?.dialect === "responses" && batch.native.form === "body" && this.#body === undefined && !this.#changed) {
      this.#body = batch;
      return;
    }
    // What only accompanies an answer leaves its bytes as they are.
    if (batch.every(({ event }) => silent.has(event.case ?? ""))) return;
    const body = this.#body;
    this.#body = undefined;
    if (body !== undefined) this.#take(body);
    this.#changed = true;
    this.#take(batch);
  }

  end(): Uint8Array | string {
    if (this.#body?.native !== undefined) return this.#body.native.bytes;
    const { status } = this.#outcome;
    return stringify(this.#outcome.response(status, this.#items.end(status)));
  }

  fault(fault: Fault): string {
    return writeFault(fault);
  }

  #take(batch: Batch): void {
    for (const event of batch) {
      this.#outcome.take(event);
      this.#items.take(event);
    }
  }
}

class StreamWriter implements AnswerWriter {
  readonly #outcome: Outcome;
  readonly #items: ItemWriter;
  /** What the provider's events that were passed on leave behind; undefined once an event was written here. */
  #passed: PassedEvents | undefined = new PassedEvents();
  #begun = false;
  #number = 0;
  #text = "";

  get lost(): ReadonlySet<string> | undefined {
    return this.#items.lost;
  }

  constructor(read: ReadRequest, requestId: string) {
    this.#outcome = new Outcome(read, requestId);
    this.#items = new ItemWriter(requestId, (type, members) => this.#say(type, members));
  }

  write(batch: Batch): Uint8Array | string | undefined {
    if (this.#passed !== undefined) {
      const { native } = batch;
      if (native?.dialect === "responses" && native.form === "frames") {
        for (let i = 0; i < batch.length; i++) this.#outcome.take(batch[i] ?? nothing);
        this.#passed.pass(native.bytes, batch);
        return native.bytes.length === 0 ? undefined : native.bytes;
      }
      if (batch.every(({ event }) => silent.has(event.case ?? ""))) {
        return this.#passed.begun && batch.some(({ event }) => event.case === "heartbeat") ? PING : undefined;
      }
      this.#takeOver(this.#passed);
    }
    this.#text = "";
    for (let i = 0; i < batch.length; i++) {
      const event = batch[i] ?? nothing;
      this.#outcome.take(event);
      if (event.event.case === "start") this.#start();
      else if (event.event.case === "heartbeat") this.#text += PING;
      else if (this.#items.take(event, batch[i + 1])) i++;
    }
    return this.#text === "" ? undefined : this.#text;
  }

  end(): string | undefined {
    this.#text = "";
    if (this.#passed !== undefined) {
      if (this.#passed.ended) return undefined;
      this.#takeOver(this.#passed);
    }
    this.#start();
    const { status } = this.#outcome;
    const output = this.#items.end(status);
    this.#say(`response.${status}`, `"response":${stringify(this.#outcome.response(status, output))}`);
    return this.#text;
  }

  fault(fault: Fault): string {
    this.#text = "";
    if (this.#passed !== undefined) this.#takeOver(this.#passed);
    const { message, type, param, code } = errorObject(fault);
    // In the form of the API's description, and in the one that its servers really have.
    this.#say("error", stringify({ code, message, param, error: { type, code, message, param } }).slice(1, -1));
    const failed = this.#outcome.response("failed", this.#items.soFar(), { code: code ?? type, message });
    this.#say("response.failed", `"response":${stringify(failed)}`);
    return this.#text;
  }

  /** From here on events are written: the items that are open in the bytes stay open. */
  #takeOver(passed: PassedEvents): void {
    this.#passed = undefined;
    if (!passed.begun) return;
    this.#begun = true;
    this.#number = passed.nextNumber();
    const { done, open, places } = passed.items();
    this.#items.resume(done, open, places);
  }

  #start(): void {
    if (this.#begun) return;
    this.#begun = true;
    const response = `"response":${stringify(this.#outcome.response("in_progress", []))}`;
    this.#say("response.created", response);
    this.#say("response.in_progress", response);
  }

  #say(type: string, members: string): void {
    this.#text += `event: ${type}\ndata: {"type":"${type}","sequence_number":${this.#number++},${members}}\n\n`;
  }
}

const nothing: ChatEvent = { $typeName: "outrigger.chat.v1.ChatEvent", event: { case: undefined } };
const PING = ": ping\n\n";

/** Events that say nothing in this dialect, or that its bytes have said already. */
const silent: ReadonlySet<string> = new Set(["warning", "decision", "heartbeat", "logprobs", "end"]);

/** What was asked, in the caller's own text where it spoke this dialect; otherwise what the API takes for said. */
function echoOf({ native, request }: ReadRequest): { readonly [member: string]: JsonValue } {
  const echo: Record<string, JsonValue> = { ...unsaid, parallel_tool_calls: request.parallelToolCalls ?? true };
  if (native?.dialect !== "responses") return echo;
  for (const { key, valueStart, valueEnd } of memberSpans(native.text)) {
    if (Object.hasOwn(unsaid, key)) echo[key] = rawLine(native.text.slice(valueStart, valueEnd));
  }
  // Null says as little as nothing, and callers look into these without asking.
  for (const key of ["tools", "tool_choice", "parallel_tool_calls", "text", "reasoning", "metadata", "truncation"]) {
    if (stringify(echo[key] ?? null) === "null") echo[key] = unsaid[key] ?? null;
  }
  return echo;
}

const unsaid: Readonly<Record<string, JsonValue>> = Object.freeze({
  instructions: null,
  max_output_tokens: null,
  max_tool_calls: null,
  metadata: {},
  parallel_tool_calls: true,
  prompt_cache_key: null,
  reasoning: { effort: null, summary: null },
  safety_identifier: null,
  service_tier: null,
  temperature: null,
  text: { format: { type: "text" } },
  tool_choice: "auto",
  tools: [],
  top_logprobs: 0,
  top_p: null,
  truncation: "disabled",
  user: null,
});
