/**
 * The part that doors of plain HTTP have in common: a JSON body in, JSON or server-sent events out, and headers that SDKs read.
 *
 * What a body means is the affair of the door's dialect, which arrives as an argument.
 */
import type { AnyRequest } from "../../proto/chat.ts";
import { Fault, FaultReason, toFault } from "../../proto/fault.ts";
import type { Call, CallNotes, DoorName, House, ListedModel, Secret } from "../call.ts";
import type { AnswerWriter, ReadRequest, ServerHalf } from "../dialects/dialect.ts";
import { ELEMENTS_MAX, jsonElementsWithin, tooManyElements } from "../framing/elements.ts";
import { credentialOf, traceparentOf } from "./caller.ts";
import type { Exchange } from "./exchange.ts";
import { inflateBody, isPlain } from "./inflate.ts";
import { type AnswerHead, type AnswerTail, pump, type Refusal, type Rendering } from "./pump.ts";

/** What makes one door of plain HTTP differ from another. */
export interface PlainFormat {
  readonly name: DoorName;
  readonly half: ServerHalf<AnyRequest>;
  /** The most bytes of one request, as they are sent and once decompressed. */
  readonly requestBytesMax: number;
}

/** Reads a request for a completion and sees its answer through. */
export function openCall(house: House, exchange: Exchange, format: PlainFormat): void {
  const id = house.random.id();
  const wrong = wrongHead(exchange);
  if (wrong !== undefined) {
    refuse(house, exchange, format, id, wrong);
    return;
  }
  exchange.body(format.requestBytesMax, (fault, body) => {
    const coding = exchange.header("content-encoding");
    if (fault !== undefined) refuse(house, exchange, format, id, fault);
    else if (isPlain(coding)) answer(house, exchange, format, id, body);
    else {
      inflateBody(coding ?? "", body, format.requestBytesMax, (broken, inflated) => {
        if (broken !== undefined) refuse(house, exchange, format, id, broken);
        else answer(house, exchange, format, id, inflated);
      });
    }
  });
}

/** Refuses a request that never became a call. `more` are further headers, names and values in turn. */
export function refuse(
  house: House,
  exchange: Exchange,
  format: PlainFormat,
  id: string,
  fault: Fault,
  more: readonly string[] = [],
): void {
  house.refused(format.name, id, fault);
  const { status, headers, data } = refusal(format, id, fault, undefined);
  exchange.head(status, [...headers, ...more]);
  exchange.end(data);
}

/** Answers a request that needs no call with a JSON value, which `value` makes; what it throws becomes a refusal. */
export function openLookup(
  house: House,
  exchange: Exchange,
  format: PlainFormat,
  value: (credential: Secret | undefined) => unknown,
): void {
  const id = house.random.id();
  let text: string;
  try {
    text = JSON.stringify(value(credentialOf(exchange)));
  } catch (caught) {
    if (!(caught instanceof Fault)) house.warn("A lookup failed in a way that nobody foresaw.", { request: id }, caught);
    refuse(house, exchange, format, id, toFault(caught));
    return;
  }
  exchange.head(200, [...jsonHead, ...idHeaders(id)]);
  exchange.end(text);
}

/** Answers a method that a path does not take; `allowed` are those that it takes. `OPTIONS` is told, everything else refused. */
export function openOtherMethod(house: House, exchange: Exchange, format: PlainFormat, allowed: string): void {
  const allow = ["allow", `${allowed}, OPTIONS`];
  if (exchange.method === "OPTIONS") {
    exchange.head(204, allow);
    exchange.end();
    return;
  }
  const message = `${exchange.path} does not take ${exchange.method}. Use ${allowed}.`;
  const fault = new Fault(FaultReason.METHOD_NOT_ALLOWED, message, { facts: { method: exchange.method, path: exchange.path } });
  refuse(house, exchange, format, house.random.id(), fault, allow);
}

/** The fault for a path that no door takes. It says what there is, because a wrong base URL is the most common first mistake. */
export function nothingHere({ method, path }: Exchange): Fault {
  const shown = path.slice(0, 200);
  const message = `There is nothing at ${method} ${shown}. There is POST /v1/chat/completions, POST /v1/responses, POST /v1/messages and GET /v1/models.`;
  return new Fault(FaultReason.PATH_NOT_FOUND, message, { facts: { method, path: shown } });
}

/** The model of that name that this caller may use; clients differ in whether they encode its slashes. Throws a fault if there is none. */
export function findModel(house: House, credential: Secret | undefined, encodedName: string): ListedModel {
  const models = house.policy().models(credential);
  const name = decoded(encodedName);
  const found = models.find((model) => model.name === name);
  if (found !== undefined) return found;
  // More than twenty names would fill a terminal and help nobody.
  const some = models.slice(0, 20).map((model) => `'${model.name}'`);
  const list = some.length === 0 ? "none" : some.join(", ") + (models.length > 20 ? ` and ${models.length - 20} more` : "");
  const shown = name.slice(0, 200);
  throw new Fault(FaultReason.MODEL_NOT_FOUND, `There is no model '${shown}' for you. Those that you may use: ${list}.`, {
    field: "model",
    facts: { model: shown },
  });
}

const jsonHead: readonly string[] = Object.freeze(["content-type", "application/json", "cache-control", "no-store"]);

const sseHead: readonly string[] = Object.freeze([
  "content-type",
  "text/event-stream; charset=utf-8",
  "cache-control",
  "no-cache, no-transform",
  // nginx would otherwise hold the events back until its buffer is full.
  "x-accel-buffering",
  "no",
]);

function decoded(encoded: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch {
    return encoded;
  }
}

function answer(house: House, exchange: Exchange, format: PlainFormat, id: string, body: Uint8Array): void {
  let read: ReadRequest<AnyRequest>;
  let timeoutMs: number;
  try {
    timeoutMs = timeoutOf(exchange.header("x-outrigger-timeout-ms"));
    if (!jsonElementsWithin(body, ELEMENTS_MAX)) throw tooManyElements();
    read = format.half.readRequest(body, (name) => exchange.header(name));
  } catch (caught) {
    if (!(caught instanceof Fault)) house.warn("A request could not be read for a reason that nobody foresaw.", { request: id }, caught);
    refuse(house, exchange, format, id, toFault(caught));
    return;
  }
  const parts = {
    id,
    door: format.name,
    request: read.request,
    native: read.native,
    streaming: read.streaming,
    nativeStreamUsage: read.streamUsage,
    validateOnly: false,
    countOnly: read.countOnly ?? false,
    credential: credentialOf(exchange),
    traceparent: traceparentOf(exchange),
    timeoutMs,
  };
  pump(house, exchange, parts, new PlainRendering(house, format, read, id));
}

/** Writes one answer in the words of the door's dialect. */
class PlainRendering implements Rendering {
  readonly #house: House;
  readonly #format: PlainFormat;
  readonly #id: string;
  readonly #streaming: boolean;
  readonly #writer: AnswerWriter;
  /** What the caller sent, for names of its fields. */
  readonly #body: string | undefined;

  constructor(house: House, format: PlainFormat, read: ReadRequest<AnyRequest>, id: string) {
    this.#house = house;
    this.#format = format;
    this.#id = id;
    this.#streaming = read.streaming;
    this.#writer = format.half.writeAnswer(read, id);
    this.#body = read.native?.text;
  }

  head({ notes }: Call): AnswerHead {
    const headers = [...(this.#streaming ? sseHead : jsonHead), ...idHeaders(this.#id)];
    addNotes(headers, notes);
    if (notes.estimated) headers.push("x-outrigger-estimated", "true");
    if (notes.droppedParams.length > 0)
      headers.push("x-outrigger-dropped-params", visible(notes.droppedParams.map((name) => this.#ownField(name)).join(", ")));
    return { status: 200, headers };
  }

  write(batch: Parameters<AnswerWriter["write"]>[0]): Uint8Array | string | undefined {
    return this.#writer.write(batch);
  }

  end(): AnswerTail {
    const data = this.#writer.end();
    const { lost } = this.#writer;
    if (lost !== undefined) {
      const facts = { door: this.#format.name, request_id: this.#id, parts: [...lost].join(", ") };
      this.#house.warn("parts of an answer have no place in the caller's format", facts);
    }
    return { data };
  }

  refuse(fault: Fault, { notes }: Call): Refusal {
    return refusal(this.#format, this.#id, this.#inOwnWords(fault), notes);
  }

  /** A fault of the request names fields as the caller wrote them; a provider's own words are nobody's fields here. */
  #inOwnWords(fault: Fault): Fault {
    const { field } = fault;
    const isOfRequest = fault.reason === FaultReason.REQUEST_INVALID || fault.reason === FaultReason.PARAMETER_UNSUPPORTED;
    if (field === undefined || !isOfRequest) return fault;
    const own = this.#ownField(field);
    if (own === field) return fault;
    const { facts, violations, httpStatus, retryable, cause } = fault;
    const renamed = violations.map((each) => ({ ...each, field: this.#ownField(each.field) }));
    const message = fault.message.replaceAll(field, own);
    return new Fault(fault.reason, message, { field: own, facts, violations: renamed, httpStatus, retryable, cause });
  }

  #ownField(field: string): string {
    const body = this.#body;
    return body === undefined ? field : (this.#format.half.ownField?.(field, body) ?? field);
  }

  fail(fault: Fault): AnswerTail {
    return { data: this.#writer.fault(fault) };
  }
}

function refusal({ half }: PlainFormat, id: string, fault: Fault, notes: CallNotes | undefined): Refusal & { readonly data: string } {
  const headers = [...jsonHead, ...idHeaders(id), "x-outrigger-reason", fault.kind.name, "x-should-retry", String(fault.retryable)];
  if (fault.retryAfterMs !== undefined) {
    const waitMs = Math.max(0, Math.ceil(fault.retryAfterMs));
    headers.push("retry-after-ms", String(waitMs), "retry-after", String(Math.ceil(waitMs / 1000)));
  }
  const providerStatus = fault.facts.provider_status;
  if (providerStatus !== undefined && providerStatus !== "") headers.push("x-outrigger-provider-status", visible(providerStatus));
  if (notes !== undefined) addNotes(headers, notes);
  return { status: fault.httpStatus, headers, data: half.writeFault(fault, id) };
}

function addNotes(headers: string[], notes: CallNotes): void {
  if (notes.route !== "") headers.push("x-outrigger-route", visible(notes.route));
  if (notes.provider !== "") headers.push("x-outrigger-provider", visible(notes.provider));
}

/** The same id under the names that two families of SDKs read and show in their errors. */
function idHeaders(id: string): string[] {
  return ["x-request-id", id, "request-id", id];
}

/** A text that may stand in a header: what is not visible ASCII is percent-encoded (RFC 9110 section 5.5). */
function visible(text: string): string {
  return /^[\x20-\x7e]*$/.test(text) ? text : encodeURIComponent(text.toWellFormed());
}

/**
 * What is wrong with a request before its body is read, if anything. A body that does not say that it is JSON is refused even where it
 * is: any page in a browser may send such a one anywhere without asking, and JSON it may not.
 */
function wrongHead(exchange: Exchange): Fault | undefined {
  const seen = exchange.header("content-type");
  if (seen !== undefined && /^application\/json *(;|$)/i.test(seen)) return undefined;
  const message = `The request's content-type must be application/json. ${seen === undefined ? "It has none." : `It is '${seen.slice(0, 100)}'.`}`;
  return new Fault(FaultReason.ENCODING_UNSUPPORTED, message, { facts: { content_type: seen?.slice(0, 100) ?? "" } });
}

function timeoutOf(header: string | undefined): number {
  if (header === undefined) return Number.POSITIVE_INFINITY;
  // Ten digits are four months.
  if (/^\d{1,10}$/.test(header)) return Number(header);
  throw new Fault(FaultReason.REQUEST_INVALID, "x-outrigger-timeout-ms must be a whole number of milliseconds, of ten digits at most.", {
    field: "x-outrigger-timeout-ms",
  });
}
