/**
 * Answers in the shapes of the Anthropic Messages API (https://docs.anthropic.com/en/api/messages-streaming), whole or streamed.
 *
 * Events say what came, and this API wants blocks that open and close one after the other: `blockWriter.ts` finds the blocks, and the
 * two writers here differ in what becomes of them. An answer that comes in this dialect and that nobody changed goes out byte for byte.
 * Should it change in the middle, the rest is written from its events, and goes on where the bytes ended.
 */
import type { Batch } from "../../../proto/chat.ts";
import type { Fault } from "../../../proto/fault.ts";
import { FinishReason, type Usage } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent, ChatStart, ChoiceFinish } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { type JsonValue, stringify } from "../../framing/json.ts";
import type { AnswerWriter, ReadRequest } from "../dialect.ts";
import { BlockWriter } from "./blockWriter.ts";
import { stopReasonOf } from "./finishReasons.ts";
import { PassedFrames } from "./passedFrames.ts";
import { writeUsage } from "./usage.ts";
import { writeFault } from "./writeFault.ts";

/** Begins an answer to a request. */
export function writeAnswer(read: ReadRequest, requestId: string): AnswerWriter {
  return read.streaming ? new StreamWriter(requestId) : new BodyWriter(requestId);
}

/** What is known of an answer beside its blocks. */
class Outcome {
  readonly #requestId: string;
  start: ChatStart | undefined;
  usage: Usage | undefined;
  #finish: ChoiceFinish | undefined;
  #refused = false;

  constructor(requestId: string) {
    this.#requestId = requestId;
  }

  get id(): string {
    return this.start?.id || `msg_${this.#requestId}`;
  }

  get model(): string {
    return this.start?.model ?? "";
  }

  /** Takes in what is no content of the answer. */
  take({ event }: ChatEvent): void {
    switch (event.case) {
      case "start":
        this.start = event.value;
        break;
      case "usage":
        this.usage = event.value;
        break;
      case "finish":
        if (event.value.choice === 0) this.#finish = event.value;
        break;
      case "refusal":
        this.#refused = true;
        break;
      default:
        break;
    }
  }

  /** Why the answer ended, as the members that say so. A model that declined in words of its own ends as a refusal here. */
  end(): { readonly [key: string]: JsonValue | undefined } {
    const { reason = FinishReason.STOP, nativeReason = "", stopSequence = "", detail = "" } = this.#finish ?? {};
    const stopReason = this.#refused && reason === FinishReason.STOP ? "refusal" : stopReasonOf(reason, nativeReason, stopSequence);
    return {
      stop_reason: stopReason,
      stop_sequence: stopReason === "stop_sequence" ? stopSequence : null,
      stop_details: detail === "" ? undefined : { type: "refusal", category: null, explanation: detail },
    };
  }
}

/** Writes a whole answer. */
class BodyWriter implements AnswerWriter {
  readonly #requestId: string;
  readonly #outcome: Outcome;
  readonly #blocks: BlockWriter;
  readonly #content: JsonValue[] = [];
  /** The one batch whose bytes are the whole answer. */
  #body: Batch | undefined;
  /** Batches behind it, if they say anything. */
  #changed = false;

  get lost(): ReadonlySet<string> | undefined {
    return this.#blocks.lost;
  }

  constructor(requestId: string) {
    this.#requestId = requestId;
    this.#outcome = new Outcome(requestId);
    this.#blocks = new BlockWriter({
      whole: true,
      open: () => undefined,
      piece: () => undefined,
      close: (block) => this.#content.push(block.whole()),
    });
  }

  write(batch: Batch): undefined {
    if (batch.native?.dialect === "anthropic" && batch.native.form === "body" && this.#body === undefined && !this.#changed) {
      this.#body = batch;
      return;
    }
    // What only accompanies an answer leaves its bytes as they are.
    if (batch.every(({ event }) => silent.has(event.case ?? ""))) return;
    this.#unpack();
    this.#changed = true;
    this.#take(batch);
  }

  end(): Uint8Array | string {
    if (this.#body?.native !== undefined && !this.#changed) return this.#body.native.bytes;
    this.#blocks.closeAll();
    const outcome = this.#outcome;
    return stringify({
      id: outcome.id,
      type: "message",
      role: "assistant",
      model: outcome.model,
      content: this.#content,
      ...outcome.end(),
      usage: writeUsage(outcome.usage),
    });
  }

  fault(fault: Fault): string {
    return writeFault(fault, this.#requestId);
  }

  #unpack(): void {
    const body = this.#body;
    this.#body = undefined;
    if (body !== undefined) this.#take(body);
  }

  #take(batch: Batch): void {
    for (const event of batch) {
      this.#outcome.take(event);
      this.#blocks.take(event);
    }
  }
}

/** Writes a stream. */
class StreamWriter implements AnswerWriter {
  readonly #requestId: string;
  readonly #outcome: Outcome;
  readonly #blocks: BlockWriter;
  /** What the frames of the provider that were passed on leave behind; undefined once an event was written here. */
  #passed: PassedFrames | undefined = new PassedFrames();
  #index = 0;
  #begun = false;
  #ended = false;
  #text = "";

  get lost(): ReadonlySet<string> | undefined {
    return this.#blocks.lost;
  }

  constructor(requestId: string) {
    this.#requestId = requestId;
    this.#outcome = new Outcome(requestId);
    this.#blocks = new BlockWriter({
      whole: false,
      open: (block) => this.#frame("content_block_start", { index: this.#index, content_block: block.head() }),
      piece: (delta) => this.#frame("content_block_delta", { index: this.#index, delta }),
      close: () => {
        this.#frame("content_block_stop", { index: this.#index });
        this.#index++;
      },
    });
  }

  write(batch: Batch): Uint8Array | string | undefined {
    const { native } = batch;
    if (this.#passed !== undefined) {
      if (native?.dialect === "anthropic" && native.form === "frames") {
        for (const event of batch) this.#outcome.take(event);
        this.#passed.pass(native.bytes, batch);
        return native.bytes.length === 0 ? undefined : native.bytes;
      }
      if (batch.every(({ event }) => silent.has(event.case ?? ""))) return batch.some(isHeartbeat) ? ping : undefined;
      this.#takeOver(this.#passed);
    }
    this.#text = "";
    for (let at = 0; at < batch.length; at++) {
      const event = batch[at];
      if (event === undefined) continue;
      this.#outcome.take(event);
      if (event.event.case === "start") this.#start(batch);
      else if (event.event.case === "heartbeat") this.#text += ping;
      else at += this.#blocks.take(event, batch, at);
    }
    return this.#text === "" ? undefined : this.#text;
  }

  end(): string | undefined {
    this.#text = "";
    if (this.#passed !== undefined) {
      if (this.#passed.ended) return undefined;
      this.#takeOver(this.#passed);
    }
    this.#blocks.closeAll();
    if (!this.#begun) this.#start([]);
    if (!this.#ended) this.#frame("message_delta", { delta: this.#outcome.end(), usage: writeUsage(this.#outcome.usage) });
    this.#frame("message_stop", {});
    return this.#text;
  }

  fault(fault: Fault): string {
    return `event: error\ndata: ${writeFault(fault, this.#requestId)}\n\n`;
  }

  /** From here on events are written: the block that is open in the bytes stays open. */
  #takeOver(passed: PassedFrames): void {
    this.#passed = undefined;
    this.#begun = passed.begun;
    this.#ended = passed.told;
    this.#index = passed.index;
    const open = passed.openBlock();
    if (open !== undefined) this.#blocks.resume(open);
  }

  /** The first frame. Counts that came along with the start are the best that is known of the input by then. */
  #start(batch: Batch): void {
    if (this.#begun) return;
    this.#begun = true;
    const counted = batch.find(({ event }) => event.case === "usage");
    if (counted !== undefined) this.#outcome.take(counted);
    this.#frame("message_start", {
      message: {
        id: this.#outcome.id,
        type: "message",
        role: "assistant",
        model: this.#outcome.model,
        content: [],
        stop_reason: null,
        stop_sequence: null,
        usage: writeUsage(this.#outcome.usage),
      },
    });
  }

  #frame(type: string, members: { readonly [key: string]: JsonValue | undefined }): void {
    this.#text += `event: ${type}\ndata: ${stringify({ type, ...members })}\n\n`;
  }
}

function isHeartbeat({ event }: ChatEvent): boolean {
  return event.case === "heartbeat";
}

const ping = 'event: ping\ndata: {"type":"ping"}\n\n';

/** Events that say nothing in this dialect, or that its bytes have said already. */
const silent: ReadonlySet<string> = new Set(["warning", "decision", "heartbeat", "logprobs", "end"]);
