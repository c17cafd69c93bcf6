/**
 * Answers of generateContent and streamGenerateContent into events (https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse).
 *
 * A whole answer and each chunk of a stream are the same object, so there is one way of reading them; what differs is how the bytes are
 * cut: one body, server-sent events, or the elements of one array. No chunk says that it is the last. An answer is complete when each of
 * its candidates has said why it ended, or when the prompt was blocked, so that is told once the bytes are over.
 */
import {
  type Batch,
  endEvent,
  event,
  finishEvent,
  heartbeatEvent,
  reasoningEvent,
  startEvent,
  textEvent,
  toolCallEvent,
} from "../../../proto/chat.ts";
import { Fault } from "../../../proto/fault.ts";
import { FinishReason, type TokenLogprob } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { isObject, type JsonObject, JsonPlace } from "../../framing/json.ts";
import { JsonArrayReader } from "../../framing/jsonArray.ts";
import { type SseBlock, type SseFrame, SseReader } from "../../framing/sse.ts";
import { incomplete, invalid, parseObject, tooLarge } from "../answerFaults.ts";
import type { AnswerInput, AnswerReader } from "../dialect.ts";
import { toolNames } from "../toolNames.ts";
import { finishReasonName, finishReasonOf } from "./finishReasons.ts";
import { geminiNames } from "./names.ts";
import { PartialArguments } from "./partialArguments.ts";
import { PlainChunks } from "./plainChunk.ts";
import { faultInAnswer } from "./readFault.ts";
import { type SealedPart, showSeal } from "./seal.ts";
import { RunningUsage } from "./usage.ts";

/** Begins to read an answer. */
export function readAnswer(input: AnswerInput): AnswerReader {
  return new Reader(input);
}

/** Reads an answer in whichever form it comes: a server that was asked for a stream may answer with a body, and the other way round. */
class Reader implements AnswerReader {
  failure: Fault | undefined;
  readonly #input: AnswerInput;
  readonly #reading: Reading;
  #framing: Framing | undefined;

  constructor(input: AnswerInput) {
    this.#input = input;
    this.#reading = new Reading(input);
  }

  read(bytes: Uint8Array): readonly Batch[] {
    if (this.failure !== undefined) return none;
    this.#framing ??= framingOf(bytes, this.#input.answerBytesMax);
    return this.#take(bytes);
  }

  end(): readonly Batch[] {
    return this.failure === undefined ? this.#take(undefined) : none;
  }

  /** Reads on, or to the end where there are no bytes. What is read before a failure reaches the caller. */
  #take(bytes: Uint8Array | undefined): readonly Batch[] {
    const events: ChatEvent[] = [];
    try {
      if (bytes !== undefined) this.#framing?.read(bytes, this.#reading, events);
      else {
        this.#framing?.end(this.#reading, events);
        this.#reading.finish(events);
      }
    } catch (caught) {
      if (!(caught instanceof Fault)) throw caught;
      this.failure = caught;
    }
    this.#reading.usage.tell(events);
    return events.length === 0 ? none : [events];
  }
}

/** One way in which the bytes of an answer are cut. What it reads it gives to the reading, response by response; failures are thrown. */
interface Framing {
  read(bytes: Uint8Array, reading: Reading, events: ChatEvent[]): void;
  end(reading: Reading, events: ChatEvent[]): void;
}

/** The framing that the first byte shows, or undefined if there is none among these yet. */
function framingOf(bytes: Uint8Array, bytesMax: number): Framing | undefined {
  for (const byte of bytes) {
    if (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09) continue;
    if (byte === 0x7b) return new BodyFraming(bytesMax);
    return byte === 0x5b ? new ArrayFraming(bytesMax) : new SseFraming(bytesMax);
  }
  return undefined;
}

/** One response as the whole body. */
class BodyFraming implements Framing {
  readonly #bytesMax: number;
  #pieces: Uint8Array[] = [];
  #length = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  read(bytes: Uint8Array): void {
    this.#length += bytes.length;
    this.#pieces.push(bytes);
    if (this.#length <= this.#bytesMax) return;
    this.#pieces = [];
    throw tooLarge(this.#bytesMax);
  }

  end(reading: Reading, events: ChatEvent[]): void {
    // One for each body: a decoder keeps what a piece cuts in two.
    const decoder = new TextDecoder("utf-8");
    const text = this.#pieces.map((piece) => decoder.decode(piece, { stream: true })).join("");
    reading.response(text + decoder.decode(), events);
  }
}

/** Server-sent events, one response in each. */
class SseFraming implements Framing {
  readonly #bytesMax: number;
  readonly #frames: SseReader;
  readonly #plain = new PlainChunks();

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#frames = new SseReader(bytesMax);
  }

  read(bytes: Uint8Array, reading: Reading, events: ChatEvent[]): void {
    const block = this.#frames.read(bytes);
    this.#take(block, reading, events, false);
    if (block.tooLong) throw tooLarge(this.#bytesMax);
  }

  end(reading: Reading, events: ChatEvent[]): void {
    this.#take(this.#frames.end(), reading, events, true);
  }

  #take({ frames }: SseBlock, reading: Reading, events: ChatEvent[], atEnd: boolean): void {
    for (const frame of frames) {
      if (frame.kind === "data") this.#chunk(frame, reading, events, atEnd);
      else if (frame.kind === "comment") events.push(heartbeatEvent());
    }
  }

  #chunk(frame: SseFrame, reading: Reading, events: ChatEvent[], atEnd: boolean): void {
    const plain = this.#plain;
    const words = plain.match(frame);
    if (words !== undefined) {
      reading.words(plain.candidate, words, plain.thought, events);
      if (plain.usageCounts !== undefined) reading.usage.addAt(frame.block, plain.usageStart, plain.usageEnd, plain.usageCounts);
      return;
    }
    const text = frame.text();
    // Some servers end every stream as another API ends its own. What is cut off at the end of a stream is no frame.
    if (text.trim() === "[DONE]" || (atEnd && !isJson(text))) return;
    const before = events.length;
    const response = reading.response(text, events);
    const said = events.length === before + 1 ? events[before]?.event.case : undefined;
    if (said === "text" || said === "reasoning") plain.learn(frame, response);
  }
}

/** One array of responses, which is how a stream comes that was not asked for as events. */
class ArrayFraming implements Framing {
  readonly #bytesMax: number;
  readonly #elements: JsonArrayReader;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#elements = new JsonArrayReader(bytesMax);
  }

  read(bytes: Uint8Array, reading: Reading, events: ChatEvent[]): void {
    for (const text of this.#elements.read(bytes)) reading.response(text, events);
    if (this.#elements.broken === "too long") throw tooLarge(this.#bytesMax);
    if (this.#elements.broken !== undefined) throw invalid("no array of answers");
  }

  end(): void {
    // An array without its end may still hold a complete answer: the candidates say whether it does.
  }
}

/** One of several answers, as far as it was read. */
interface Candidate {
  readonly index: number;
  calls: number;
  blocks: number;
  /** The block of thinking that the last part belongs to, or -1. */
  openBlock: number;
  /** The call whose arguments come piece by piece. */
  openCall: { readonly index: number; readonly arguments: PartialArguments; bytes: number } | undefined;
  finishReason: string | undefined;
  finishMessage: string;
}

/** What is known of an answer so far, whichever form it comes in. */
class Reading {
  readonly #input: AnswerInput;
  /** The caller's names of tools, once one of them is called. */
  #callers: ReadonlyMap<string, string> | undefined;
  readonly #candidates = new Map<number, Candidate>();
  readonly #ids = new Set<string>();
  readonly #sources = new Set<string>();
  readonly usage = new RunningUsage();
  #begun = false;
  #blockReason: string | undefined;
  #blockMessage = "";

  constructor(input: AnswerInput) {
    this.#input = input;
  }

  /** Takes in a piece of one candidate's text or thinking. */
  words(index: number, text: string, thought: boolean, events: ChatEvent[]): void {
    const candidate = this.#known(index);
    if (thought) this.#thought(candidate, text, events);
    else this.#text(candidate, text, events);
  }

  /** Takes in one response, the whole answer or a chunk of it, and returns its JSON. */
  response(text: string, events: ChatEvent[]): JsonObject {
    const response = parseObject(text);
    if (response.error !== undefined && response.error !== null) throw faultInAnswer(response.error);
    const place = JsonPlace.root(text);
    if (!this.#begun) {
      this.#begun = true;
      events.push(this.#start(response));
    }
    const { promptFeedback: feedback, candidates, usageMetadata } = response;
    if (isObject(feedback) && feedback.blockReason !== undefined) {
      this.#blockReason = String(feedback.blockReason);
      this.#blockMessage = textMember(feedback, "blockReasonMessage");
    }
    if (Array.isArray(candidates)) {
      candidates.forEach((candidate: unknown, index) => {
        if (isObject(candidate)) this.#candidate(candidate, place.member("candidates").element(index), events);
      });
    }
    if (isObject(usageMetadata)) this.usage.add(usageMetadata, place.member("usageMetadata"));
    return response;
  }

  /** The bytes are over: the last events of an answer that is complete. Throws the fault of one that is not. */
  finish(events: ChatEvent[]): void {
    const candidates = [...this.#candidates.values()].sort((a, b) => a.index - b.index);
    const blocked = this.#blockReason;
    if (blocked === undefined) {
      if (candidates.length === 0) throw incomplete("The provider's answer holds nothing and says no reason why.");
      if (candidates.some(({ finishReason }) => finishReason === undefined)) {
        throw incomplete("The provider's answer ended without saying why.");
      }
    }
    for (const candidate of candidates) this.#closeCall(candidate, events);
    this.usage.tellLast(events);
    for (const { index, finishReason, finishMessage, calls } of candidates) {
      if (finishReason !== undefined) {
        events.push(finishEvent(index, finishReasonOf(finishReason, calls > 0), finishReason, "", finishMessage));
      } else events.push(this.#blocked(index, blocked ?? ""));
    }
    if (candidates.length === 0) events.push(this.#blocked(0, blocked ?? ""));
    events.push(endEvent());
  }

  #blocked(index: number, reason: string): ChatEvent {
    return finishEvent(index, FinishReason.CONTENT_FILTER, `promptFeedback.blockReason:${reason}`, "", this.#blockMessage);
  }

  #start(response: JsonObject): ChatEvent {
    const { model, route, provider, newId } = this.#input;
    const created = Date.parse(textMember(response, "createTime"));
    const id = textMember(response, "responseId") || newId("gen_");
    return startEvent(id, textMember(response, "modelVersion") || model, Number.isNaN(created) ? 0 : created / 1000, route, provider);
  }

  #candidate(given: JsonObject, place: JsonPlace, events: ChatEvent[]): void {
    const candidate = this.#known(typeof given.index === "number" ? given.index : 0);
    const { content } = given;
    if (isObject(content) && Array.isArray(content.parts)) {
      const parts = place.member("content").member("parts");
      content.parts.forEach((part: unknown, index) => {
        if (isObject(part)) this.#part(candidate, part, parts.element(index), events);
      });
    }
    this.#citations(candidate, given, place, events);
    if (isObject(given.logprobsResult)) events.push(logprobsEvent(candidate.index, given.logprobsResult));
    const finishReason = finishReasonName(given.finishReason);
    if (finishReason !== undefined) candidate.finishReason = finishReason;
    if (textMember(given, "finishMessage") !== "") candidate.finishMessage = textMember(given, "finishMessage");
  }

  #known(index: number): Candidate {
    let candidate = this.#candidates.get(index);
    if (candidate === undefined) {
      // An index that the conversation cannot hold is no index.
      if (!Number.isInteger(index) || index < 0 || index > CANDIDATES_MAX) throw invalid("a candidate with an impossible index");
      candidate = { index, calls: 0, blocks: 0, openBlock: -1, openCall: undefined, finishReason: undefined, finishMessage: "" };
      this.#candidates.set(index, candidate);
    }
    return candidate;
  }

  #part(candidate: Candidate, part: JsonObject, place: JsonPlace, events: ChatEvent[]): void {
    const signature = textMember(part, "thoughtSignature");
    const { functionCall, text } = part;
    if (isObject(functionCall)) {
      this.#call(candidate, functionCall, place.member("functionCall"), signature, events);
    } else if (typeof text === "string" && part.thought === true) {
      this.#thought(candidate, text, events);
      if (signature !== "") seal(candidate, { kind: "thought" }, signature, events);
    } else if (typeof text === "string") {
      this.#text(candidate, text, events);
      if (signature !== "") seal(candidate, { kind: text === "" ? "end" : "text" }, signature, events);
    } else if (Object.keys(part).some((member) => member !== "thoughtSignature")) {
      candidate.openBlock = -1;
      events.push(extraEvent(candidate.index, place.json()));
    } else if (signature !== "") seal(candidate, { kind: "end" }, signature, events);
  }

  #text(candidate: Candidate, text: string, events: ChatEvent[]): void {
    if (text === "") return;
    candidate.openBlock = -1;
    events.push(textEvent(candidate.index, text));
  }

  #thought(candidate: Candidate, text: string, events: ChatEvent[]): void {
    if (candidate.openBlock === -1) candidate.openBlock = candidate.blocks++;
    if (text !== "") events.push(reasoningEvent(candidate.index, candidate.openBlock, text, ownThinking));
  }

  /** A call, which nearly always comes whole. One that goes on is opened by its name and closed by a piece that does not go on. */
  #call(candidate: Candidate, call: JsonObject, place: JsonPlace, signature: string, events: ChatEvent[]): void {
    const sent = textMember(call, "name");
    const { openCall } = candidate;
    if (sent === "") {
      if (openCall === undefined) throw invalid("a tool call without a name");
      this.#pieces(openCall, call, place);
      if (call.willContinue !== true) this.#closeCall(candidate, events);
      return;
    }
    this.#closeCall(candidate, events);
    const id = this.#callId(textMember(call, "id"));
    if (signature !== "") seal(candidate, { kind: "call", id }, signature, events);
    candidate.openBlock = -1;
    const index = candidate.calls++;
    const whole = call.willContinue !== true && call.partialArgs === undefined;
    this.#callers ??= toolNames(this.#input.request, geminiNames).callers;
    const args = !whole ? "" : isObject(call.args) ? place.member("args").json() : "{}";
    events.push(toolCallEvent(candidate.index, index, id, this.#callers.get(sent) ?? sent, args));
    if (whole) return;
    candidate.openCall = { index, arguments: new PartialArguments(), bytes: 0 };
    this.#pieces(candidate.openCall, call, place);
    if (call.willContinue !== true) this.#closeCall(candidate, events);
  }

  #pieces(open: NonNullable<Candidate["openCall"]>, call: JsonObject, place: JsonPlace): void {
    if (!Array.isArray(call.partialArgs)) return;
    // They are held until the call is whole, and so have a limit.
    open.bytes += place.json().length;
    if (open.bytes > this.#input.answerBytesMax) throw tooLarge(this.#input.answerBytesMax);
    for (const piece of call.partialArgs as readonly unknown[]) {
      if (!open.arguments.add(piece)) throw invalid("a piece of a tool call that has no place in it");
    }
  }

  #closeCall(candidate: Candidate, events: ChatEvent[]): void {
    const { openCall } = candidate;
    if (openCall === undefined) return;
    candidate.openCall = undefined;
    events.push(toolCallEvent(candidate.index, openCall.index, "", "", openCall.arguments.json()));
  }

  /** The provider's id of a call, where it gives one that names this call alone. */
  #callId(given: string): string {
    let id = given;
    while (id === "" || this.#ids.has(id)) id = this.#input.newId("call_");
    this.#ids.add(id);
    return id;
  }

  /** Sources, which chunks may repeat. */
  #citations({ index }: Candidate, given: JsonObject, place: JsonPlace, events: ChatEvent[]): void {
    const { citationMetadata, groundingMetadata } = given;
    if (isObject(citationMetadata) && Array.isArray(citationMetadata.citations)) {
      const list = place.member("citationMetadata").member("citations");
      citationMetadata.citations.forEach((citation: unknown, at) => {
        if (isObject(citation)) this.#citation(index, citation, "", "citationMetadata.citations", list.element(at).json(), events);
      });
    }
    if (!isObject(groundingMetadata) || !Array.isArray(groundingMetadata.groundingChunks)) return;
    const quotes = quotesOf(groundingMetadata);
    const list = place.member("groundingMetadata").member("groundingChunks");
    groundingMetadata.groundingChunks.forEach((chunk: unknown, at) => {
      if (!isObject(chunk)) return;
      const source = [chunk.web, chunk.retrievedContext, chunk.maps].find(isObject) ?? {};
      const json = list.element(at).json();
      for (const quote of quotes.get(at) ?? [""]) {
        this.#citation(index, source, quote, "groundingMetadata.groundingChunks", json, events);
      }
    });
  }

  #citation(choice: number, source: JsonObject, quote: string, path: string, json: string, events: ChatEvent[]): void {
    const key = `${choice} ${quote.length} ${quote} ${json}`;
    if (this.#sources.has(key)) return;
    this.#sources.add(key);
    events.push(
      event("citation", {
        $typeName: "outrigger.chat.v1.Citation",
        choice,
        url: textMember(source, "uri"),
        title: textMember(source, "title"),
        quote,
        native: { $typeName: "outrigger.chat.v1.Extra", dialect: "gemini", path, json },
      }),
    );
  }
}

/** Thinking without a seal, too, is known again as this dialect's own. */
const ownThinking = { dialect: "gemini" } as const;

/** More answers to one question no caller can ask for. */
const CANDIDATES_MAX = 127;

/** A signature as the seal of the thinking that is open, or of a block of its own. */
function seal(candidate: Candidate, part: SealedPart, signature: string, events: ChatEvent[]): void {
  const block = candidate.openBlock === -1 ? candidate.blocks++ : candidate.openBlock;
  events.push(reasoningEvent(candidate.index, block, "", { signature: showSeal({ part, signature }), dialect: "gemini" }));
  // What is sealed is closed: two seals on one block would be none.
  candidate.openBlock = -1;
}

/** A part that only this dialect knows: code that the provider ran and what came of it, or a picture. */
function extraEvent(choice: number, json: string): ChatEvent {
  return event("extra", {
    $typeName: "outrigger.chat.v1.ExtraEvent",
    choice,
    extra: { $typeName: "outrigger.chat.v1.Extra", dialect: "gemini", path: "content.parts", json },
  });
}

/** What the answer says by each source of a grounded answer, by the source's place in the list. */
function quotesOf({ groundingSupports }: JsonObject): Map<number, string[]> {
  const quotes = new Map<number, string[]>();
  for (const support of Array.isArray(groundingSupports) ? (groundingSupports as readonly unknown[]) : []) {
    if (!isObject(support) || !Array.isArray(support.groundingChunkIndices)) continue;
    const quote = isObject(support.segment) ? textMember(support.segment, "text") : "";
    for (const at of support.groundingChunkIndices as readonly unknown[]) {
      if (typeof at !== "number") continue;
      const known = quotes.get(at);
      if (known === undefined) quotes.set(at, [quote]);
      else known.push(quote);
    }
  }
  return quotes;
}

/** How likely each token was: the chosen ones, and at the same places of a second list the likeliest. */
function logprobsEvent(choice: number, { chosenCandidates, topCandidates }: JsonObject): ChatEvent {
  const tops: readonly unknown[] = Array.isArray(topCandidates) ? topCandidates : [];
  const content = (Array.isArray(chosenCandidates) ? chosenCandidates : []).map((chosen: unknown, at) => {
    const top = tops[at];
    const candidates: readonly unknown[] = isObject(top) && Array.isArray(top.candidates) ? top.candidates : [];
    return tokenLogprob(
      chosen,
      candidates.map((candidate) => tokenLogprob(candidate, [])),
    );
  });
  return event("logprobs", { $typeName: "outrigger.chat.v1.LogprobsDelta", choice, content, refusal: [] });
}

function tokenLogprob(given: unknown, top: TokenLogprob[]): TokenLogprob {
  const { token, logProbability } = isObject(given) ? given : {};
  return {
    $typeName: "outrigger.chat.v1.TokenLogprob",
    token: typeof token === "string" ? token : "",
    // A probability of 1 has the logarithm 0, which is left out of the JSON.
    logprob: typeof logProbability === "number" ? logProbability : 0,
    top,
  };
}

function textMember(object: JsonObject, key: string): string {
  const value = object[key];
  return typeof value === "string" ? value : "";
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

const none: readonly Batch[] = Object.freeze([]);
