/**
 * Write, sign, fetch, frame, read: the way to one provider and back.
 *
 * `send` is a hand-driven async iterator and no generator: the wire calls it when bytes come, the door calls it when it can take
 * more, and nothing is allocated between the two but the batches. Bytes that come while the door does not ask are kept as they are,
 * since decoded they would take several times the room, and reading stops at the provider's socket: a caller that does not read costs
 * what one read brings, and no more.
 */
import { type Batch, embeddingEvent, endEvent, event, nativeBatch, startEvent, usageEvent, warningEvent } from "../../proto/chat.ts";
import { estimateTokens } from "../../proto/estimateTokens.ts";
import { Fault, FaultReason, toFault, withoutSecrets } from "../../proto/fault.ts";
import type { ChatRequest, Usage } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { EmbeddingRequest } from "../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import type { ChatEvent, ChatStart } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";
import type { Call, Clock, Next, Random, Upstream, UpstreamExchange, UpstreamHandler, UpstreamHeaders } from "../call.ts";
import type { AnswerReader, ClientHalf, WrittenRequest } from "../dialects/dialect.ts";

/** A provider, ready to be sent to. */
export interface ProviderWire {
  /** Its name in policy. */
  readonly name: string;
  readonly client: ClientHalf;
  /** The same for texts to be gone on with, which a model that only answers gets as a user's turn. */
  readonly textClient: ClientHalf;
  /** Scheme, host and port. */
  readonly origin: string;
  /** The endpoint's own path, without a slash at its end; the dialect's path follows. */
  readonly basePath: string;
  /** Headers that policy adds, names and values in turn. */
  readonly headers: readonly string[];
  /**
   * The headers by which the provider knows the platform, names and values in turn, as they are now; empty without a credential. A
   * signature is made over `path`, the dialect's `headers` and `body`, which are what is sent; other credentials do not look at them.
   */
  authorize(path: string, headers: readonly string[], body: string | Uint8Array): readonly string[];
  /** Of a credential that runs out; what `authorize` gives then depends on it. */
  readonly living?: LivingCredential;
  readonly connectTimeoutMs: number;
  readonly firstContentTimeoutMs: number;
  readonly betweenContentTimeoutMs: number;
  readonly callTimeoutMs: number;
  readonly connections: number;
  /** The most inputs of one request for vectors, where policy allows fewer than the dialect; `Infinity` where it does not. */
  readonly embeddingInputsMax: number;
  /** The most bytes of a unary answer, or of one event of a stream. */
  readonly answerBytesMax: number;
}

/** A credential that holds for a while. */
export interface LivingCredential {
  /** Undefined if there is one now, as there nearly always is. Otherwise resolves once there is, or rejects with a fault. */
  ready(): Promise<void> | undefined;
  /** The provider did not accept it. */
  refused(): void;
}

/** What `send` needs of the outside world. */
export interface SendParts {
  readonly upstream: Upstream;
  readonly clock: Clock;
  readonly random: Random;
}

/** The most of a refusal's body that is read: an error has no more to say. */
const refusalBytesMax = 64 * 1024;

/** Makes the way to one provider. `routeTimeoutMs` lowers the provider's own limit on the whole call. */
export function send(wire: ProviderWire, parts: SendParts, routeTimeoutMs: number | undefined): Next {
  const callTimeoutMs = Math.min(wire.callTimeoutMs, routeTimeoutMs ?? Number.POSITIVE_INFINITY);
  return function send(call) {
    const { request } = call;
    if (request.$typeName === "outrigger.chat.v1.EmbeddingRequest") return sendForVectors(wire, parts, call, request, callTimeoutMs);
    if (call.countOnly && wire.client.tokenCount === undefined && !call.validateOnly) return estimate(wire, call, request);
    const question = chatQuestion(wire, parts, call, request);
    noteDropped(call, question.written);
    if (call.validateOnly) return explanation(wire, call, [question.written]);
    return new Answer(wire, parts, call, question, callTimeoutMs);
  };
}

/** One request to a provider, and how what comes of it is read. */
interface Question {
  readonly written: WrittenRequest;
  /** Begins to read the answer, once its headers say that it is one. */
  read(headers: UpstreamHeaders): AnswerReader;
}

/** Asks for an answer, or how many tokens the same request has. */
function chatQuestion(wire: ProviderWire, { random }: SendParts, call: Call, request: ChatRequest): Question {
  const { streaming, target } = call;
  const model = target?.model ?? request.model;
  const dropUnsupported = target?.dropUnsupported ?? false;
  const client = request.rawPrompt === true ? wire.textClient : wire.client;
  const counting = call.countOnly ? client.tokenCount : undefined;
  const reads = counting ?? client;
  const asked = {
    written: withWarnings(call, client.writeRequest({ request, native: call.native, model, streaming, dropUnsupported })),
    read: () =>
      reads.readAnswer({
        request,
        streaming,
        model,
        route: target?.route ?? "",
        provider: wire.name,
        nativeStreamUsage: call.nativeStreamUsage,
        answerBytesMax: wire.answerBytesMax,
        newId: (prefix) => prefix + random.id(),
      }),
  };
  return counting === undefined ? asked : { ...asked, written: counting.ask(asked.written, model) };
}

/** What nobody can be asked is estimated, and said to be. */
async function* estimate(wire: ProviderWire, call: Call, request: ChatRequest): AsyncGenerator<Batch> {
  call.notes.estimated = true;
  const inputTokens = BigInt(estimateTokens(request));
  const message = `The provider ${wire.name} cannot be asked how many tokens a request has: this is an estimate.`;
  yield [
    startEvent(call.id, call.target?.model ?? request.model, 0, call.target?.route ?? "", wire.name),
    warningEvent("ESTIMATED", "", message),
    usageEvent({ $typeName: "outrigger.chat.v1.Usage", inputTokens, nativeJson: "" }),
    endEvent(),
  ];
}

/** Asks for vectors: in one request, or in several where the provider takes fewer inputs at once. */
function sendForVectors(
  wire: ProviderWire,
  parts: SendParts,
  call: Call,
  request: EmbeddingRequest,
  callTimeoutMs: number,
): AsyncIterable<Batch> {
  const { client } = wire;
  const model = call.target?.model ?? request.model;
  const half = client.embeddings;
  if (half === undefined) {
    const message = `The provider ${wire.name} makes no vectors of texts, or not in the API that it is asked by.`;
    throw new Fault(FaultReason.PROVIDER_UNIMPLEMENTED, message, { field: "model", facts: { provider: wire.name, model } });
  }
  const inputsMax = Math.min(half.inputsMax(model), wire.embeddingInputsMax);
  const questions: Question[] = [];
  for (let from = 0; from < request.inputs.length; from += inputsMax) {
    const piece = request.inputs.length <= inputsMax ? request : { ...request, inputs: request.inputs.slice(from, from + inputsMax) };
    questions.push({
      written: withWarnings(call, half.writeRequest({ request: piece, model, dropUnsupported: call.target?.dropUnsupported ?? false })),
      read: (headers) =>
        half.readAnswer({
          request: piece,
          model,
          route: call.target?.route ?? "",
          provider: wire.name,
          answerBytesMax: wire.answerBytesMax,
          header: (name) => headers.get(name),
          newId: (prefix) => prefix + parts.random.id(),
        }),
    });
  }
  const [first] = questions;
  if (first === undefined) throw new Error("a request for vectors has inputs");
  noteDropped(call, first.written);
  if (call.validateOnly)
    return explanation(
      wire,
      call,
      questions.map(({ written }) => written),
    );
  if (questions.length === 1) return new Answer(wire, parts, call, first, callTimeoutMs);
  return inPieces(wire, parts, call, questions, callTimeoutMs);
}

/** Requests of one call that run at once: enough to hide the way there and back, few enough not to spend a provider's rate limit. */
const piecesAtOnce = 4;

/**
 * Asks several questions, a few at a time, and gives their answers as one: all of them, or the first failure, which stops the rest.
 */
async function* inPieces(
  wire: ProviderWire,
  parts: SendParts,
  call: Call,
  questions: readonly Question[],
  callTimeoutMs: number,
): AsyncGenerator<Batch> {
  const endsAtMs = parts.clock.monotonicMs() + callTimeoutMs;
  const answers: ChatEvent[][] = questions.map(() => []);
  const running = new Set<AsyncIterator<Batch>>();
  let asked = 0;
  let stopped = false;
  const askOn = async (): Promise<void> => {
    while (asked < questions.length && !stopped) {
      const index = asked++;
      const question = questions[index];
      const events = answers[index];
      if (question === undefined || events === undefined) return;
      // What came before has used up a part of the time that there is for the whole call.
      const answer = new Answer(wire, parts, call, question, Math.max(0, endsAtMs - parts.clock.monotonicMs()));
      running.add(answer);
      for (let result = await answer.next(); result.done !== true; result = await answer.next()) events.push(...result.value);
      running.delete(answer);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(piecesAtOnce, questions.length) }, askOn));
    yield joinPieces(answers);
  } finally {
    stopped = true;
    for (const answer of running) answer.return?.().then(undefined, nothing);
  }
}

/** The answers to the pieces of a request for vectors as one: vectors in the order of all inputs, what was consumed added up. */
export function joinPieces(answers: readonly (readonly ChatEvent[])[]): Batch {
  let start: ChatStart | undefined;
  const warnings = new Map<string, ChatEvent>();
  const vectors: ChatEvent[] = [];
  const usages: (Usage | undefined)[] = [];
  for (const events of answers) {
    const before = vectors.length;
    let usage: Usage | undefined;
    for (const piece of events) {
      const { event } = piece;
      if (event.case === "start") start ??= event.value;
      else if (event.case === "warning") warnings.set(`${event.value.code} ${event.value.field} ${event.value.message}`, piece);
      else if (event.case === "embedding") vectors.push(embeddingEvent(before + event.value.index, event.value.values));
      else if (event.case === "usage") usage = event.value;
    }
    usages.push(usage);
  }
  if (start === undefined) throw new Error("every answer has a start");
  const usage = sumOf(usages);
  return [event("start", start), ...warnings.values(), ...vectors, ...(usage === undefined ? [] : [usageEvent(usage)]), endEvent()];
}

/** What pieces consumed together. A total is known only if every piece told it: a sum of some would pass for one of all. */
function sumOf(usages: readonly (Usage | undefined)[]): Usage | undefined {
  const told = usages.filter((usage) => usage !== undefined);
  if (told.length < usages.length) return undefined;
  const sum: Usage = {
    $typeName: "outrigger.chat.v1.Usage",
    nativeJson: `[${told.map(({ nativeJson }) => nativeJson || "null").join(",")}]`,
  };
  for (const key of counts) {
    const each = told.map((usage) => usage[key]).filter((count) => count !== undefined);
    if (each.length === told.length) sum[key] = each.reduce((total, count) => total + count, 0n);
  }
  return sum;
}

const counts = ["inputTokens", "outputTokens", "totalTokens", "cachedInputTokens", "cacheWriteTokens", "reasoningTokens"] as const;

/** What filters changed is told before what the dialect did. */
function withWarnings({ warnings }: Call, written: WrittenRequest): WrittenRequest {
  return warnings.length === 0 ? written : { ...written, warnings: [...warnings, ...written.warnings] };
}

function noteDropped({ notes }: Call, { warnings }: WrittenRequest): void {
  if (warnings.length === 0) return;
  // What was only sent in another form is a warning too, and was not left out.
  const dropped = warnings.filter(({ code }) => code === "PARAMETER_DROPPED");
  if (dropped.length > 0) notes.droppedParams = shortList([...new Set(dropped.map(({ field }) => field))]);
}

/** Names of what was left out go into a header and a log line: clients refuse heads of 8 KiB, and each byte may become three there. */
const namesBytesMax = 1_024;

/** As many names as fit, and how many more there are: a long conversation with thinking can lose a thousand parts. Warnings tell all. */
function shortList(names: readonly string[]): string[] {
  let bytes = 0;
  const past = names.findIndex((name) => {
    bytes += Buffer.byteLength(name) + 2;
    return bytes > namesBytesMax;
  });
  return past === -1 ? [...names] : [...names.slice(0, past), `${names.length - past} more`];
}

/** One answer on its way from the wire to the door. */
class Answer implements AsyncIterableIterator<Batch>, UpstreamHandler {
  readonly #wire: ProviderWire;
  readonly #parts: SendParts;
  readonly #call: Call;
  readonly #question: Question;
  /** What was sent by which the provider knows the platform, names and values in turn. */
  #authorization: readonly string[] = [];
  #exchange: UpstreamExchange = inert;
  /** A field and not an assignment: V8 makes a function that is assigned to a property old at once, and with it all that it reaches. */
  readonly #onAbort = () => this.#fail(toFault(this.#call.signal.reason));
  readonly #endsAtMs: number;

  #reader: AnswerReader | undefined;
  #refused: { readonly status: number; readonly headers: UpstreamHeaders; readonly pieces: Uint8Array[]; bytes: number } | undefined;
  /** Decoded, and not yet asked for. */
  #waiting: Batch[] = [];
  /** Not yet decoded, because nobody asks. */
  #held: Uint8Array[] = [];
  #pausedAtMs = 0;
  #paused = false;
  #over = false;
  #fault: Fault | undefined;
  #resolve: ((result: IteratorResult<Batch>) => void) | undefined;
  #reject: ((fault: Fault) => void) | undefined;
  #contentAtMs: number;
  #sawContent = false;
  #begun = false;
  #waitsForCredential = false;
  #stopWatch: () => void = nothing;

  constructor(wire: ProviderWire, parts: SendParts, call: Call, question: Question, callTimeoutMs: number) {
    this.#wire = wire;
    this.#parts = parts;
    this.#call = call;
    this.#question = question;
    this.#contentAtMs = parts.clock.monotonicMs();
    this.#endsAtMs = this.#contentAtMs + callTimeoutMs;
    if (call.signal.aborted) {
      this.#onAbort();
      return;
    }
    call.signal.addEventListener("abort", this.#onAbort);
    const late = wire.living?.ready();
    if (late === undefined) this.#send();
    else {
      this.#waitsForCredential = true;
      late.then(
        () => this.#send(),
        (caught) => this.#fail(toFault(caught)),
      );
    }
    if (!this.#over) this.#watch(Math.min(wire.firstContentTimeoutMs, callTimeoutMs));
  }

  #send(): void {
    this.#waitsForCredential = false;
    // The caller may have left while the credential was fetched.
    if (this.#over) return;
    const wire = this.#wire;
    const { headers, body, path: below } = this.#question.written;
    const path = wire.basePath + below;
    try {
      this.#authorization = wire.authorize(path, headers, body);
    } catch (caught) {
      this.#fail(toFault(caught));
      return;
    }
    this.#exchange = this.#parts.upstream(
      {
        origin: wire.origin,
        path,
        headers: [...headers, ...wire.headers, ...this.#authorization],
        body,
        connectTimeoutMs: wire.connectTimeoutMs,
        connections: wire.connections,
      },
      this,
    );
    // An upstream may refuse while it is called.
    if (this.#over) this.#exchange.abort();
  }

  /** Kept as one function for the whole answer, since a closure for each wait would be garbage for each token. */
  readonly #ask = (resolve: (result: IteratorResult<Batch>) => void, reject: (fault: Fault) => void): void => {
    this.#resolve = resolve;
    this.#reject = reject;
  };

  /** The door asks, so what comes is read at once. */
  get wanting(): boolean {
    return this.#resolve !== undefined;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<Batch>> {
    if (this.#waiting.length === 0) this.#readHeld();
    const batch = this.#waiting.shift();
    if (batch !== undefined) {
      if (this.#waiting.length === 0) this.#drained();
      return Promise.resolve({ done: false, value: batch });
    }
    if (this.#fault !== undefined) {
      const fault = this.#fault;
      this.#fault = undefined;
      return Promise.reject(fault);
    }
    if (this.#over) return Promise.resolve(done);
    return new Promise(this.#ask);
  }

  /** The door leaves: nothing more is wanted. */
  return(): Promise<IteratorResult<Batch>> {
    this.#waiting = [];
    this.#held = [];
    this.#fault = undefined;
    this.#finish();
    this.#exchange.abort();
    this.#wakeUp();
    return Promise.resolve(done);
  }

  begun(): void {
    this.#begun = true;
    // The provider is not silent before it is asked.
    this.#contentAtMs = this.#parts.clock.monotonicMs();
  }

  head(status: number, headers: UpstreamHeaders): void {
    if (status < 200 || status > 299) {
      this.#refused = { status, headers, pieces: [], bytes: 0 };
      return;
    }
    this.#reader = this.#question.read(headers);
  }

  data(bytes: Uint8Array): void {
    if (this.#over) return;
    if (this.#refused !== undefined) {
      this.#addRefusal(this.#refused, bytes);
      return;
    }
    if (this.wanting) {
      this.#read(bytes);
      return;
    }
    this.#held.push(bytes);
    if (this.#paused) return;
    this.#paused = true;
    this.#pausedAtMs = this.#parts.clock.monotonicMs();
    this.#exchange.pause();
  }

  #readHeld(): void {
    if (this.#held.length === 0) return;
    const held = this.#held;
    this.#held = [];
    for (const bytes of held) if (!this.#over) this.#read(bytes);
    // Nothing may have become whole by it; then the rest is still to come.
    if (this.#waiting.length === 0) this.#drained();
  }

  #read(bytes: Uint8Array): void {
    try {
      const reader = this.#reader;
      if (reader === undefined) throw new Error("an answer's body comes after its head");
      const batches = reader.read(bytes);
      if (batches.length > 0) this.#give(batches);
      if (reader.failure !== undefined) this.#fail(reader.failure);
    } catch (caught) {
      this.#fail(toFault(caught));
    }
  }

  end(): void {
    if (this.#over) return;
    try {
      if (this.#refused !== undefined) this.#fail(this.#refusal(this.#refused));
      else {
        const reader = this.#reader;
        if (reader === undefined) throw new Error("an answer's end comes after its head");
        this.#readHeld();
        if (this.#over) return;
        const batches = reader.end();
        this.#fault = reader.failure && this.#concealed(reader.failure);
        this.#finish();
        this.#give(batches);
      }
    } catch (caught) {
      this.#fail(toFault(caught));
    }
  }

  error(error: Error, sent: boolean): void {
    if (this.#over) return;
    const facts = { provider: this.#wire.name };
    if (this.#refused !== undefined) this.#fail(this.#refusal(this.#refused));
    else if (this.#reader === undefined) {
      const message = sent
        ? `The provider ${this.#wire.name} closed the connection before it answered.`
        : `The provider ${this.#wire.name} could not be reached.`;
      this.#fail(new Fault(FaultReason.PROVIDER_UNAVAILABLE, message, { facts, cause: error }));
    } else {
      const message = `The provider ${this.#wire.name} closed the connection before its answer was complete.`;
      this.#fail(new Fault(FaultReason.PROVIDER_ANSWER_INCOMPLETE, message, { facts, cause: error }));
    }
  }

  #give(batches: readonly Batch[]): void {
    const { watch } = this.#call;
    if (watch !== undefined) for (const batch of batches) watch(batch);
    for (const batch of batches) this.#waiting.push(this.#started ? batch : this.#start(batch));
    if (!(this.#over && this.#sawContent) && hasContent(batches)) this.#content();
    this.#wakeUp();
  }

  #started = false;

  /** Behind the start, which is the first event of the first batch, comes what was left out of the request; that batch may be the last. */
  #start(first: Batch): Batch {
    const [start, ...rest] = first;
    if (start === undefined) return first;
    this.#started = true;
    const { warnings } = this.#question.written;
    if (warnings.length === 0) return first;
    const events = [start, ...warnings.map(({ code, field, message }) => warningEvent(code, field, message)), ...rest];
    return first.native === undefined ? events : nativeBatch(events, first.native);
  }

  #content(): void {
    this.#contentAtMs = this.#parts.clock.monotonicMs();
    if (this.#sawContent) return;
    this.#sawContent = true;
    // Of a call in several pieces the first one counts.
    if (this.#call.notes.firstContentAtMs === 0) this.#call.notes.firstContentAtMs = this.#contentAtMs;
  }

  #drained(): void {
    if (!this.#paused || this.#over) return;
    this.#paused = false;
    // The provider was not silent meanwhile: we did not listen.
    this.#contentAtMs = Math.max(this.#contentAtMs, this.#pausedAtMs) + this.#parts.clock.monotonicMs() - this.#pausedAtMs;
    this.#exchange.resume();
  }

  /** One timer a call: when it fires it looks at the clock and, if all is well, sets itself again. */
  #watch(delayMs: number): void {
    this.#stopWatch = this.#parts.clock.after(delayMs, () => {
      const nowMs = this.#parts.clock.monotonicMs();
      const { firstContentTimeoutMs, betweenContentTimeoutMs, name } = this.#wire;
      const silenceMaxMs = this.#sawContent ? betweenContentTimeoutMs : firstContentTimeoutMs;
      // While the door does not ask, the provider is silent because we do not listen.
      const silentUntilMs = this.#paused ? Number.POSITIVE_INFINITY : this.#contentAtMs + silenceMaxMs;
      if (nowMs >= this.#endsAtMs) this.#timeOut(`The provider ${name} did not complete its answer in time.`);
      else if (nowMs < silentUntilMs) this.#watch(Math.min(this.#endsAtMs, silentUntilMs, nowMs + silenceMaxMs) - nowMs);
      else if (this.#waitsForCredential) this.#fail(this.#noCredential(silenceMaxMs));
      else if (!this.#begun) this.#fail(this.#noConnection(silenceMaxMs));
      else if (this.#sawContent) this.#timeOut(`The provider ${name} was silent for ${silenceMaxMs} ms in the middle of its answer.`);
      else this.#timeOut(`The provider ${name} sent no content within ${silenceMaxMs} ms.`);
    });
  }

  #noConnection(waitedMs: number): Fault {
    const { name, connections } = this.#wire;
    const message = `No connection to the provider ${name} was free or could be made within ${waitedMs} ms; there may be ${connections} at once.`;
    return new Fault(FaultReason.PROVIDER_UNAVAILABLE, message, { facts: { provider: name, connections_max: String(connections) } });
  }

  #noCredential(waitedMs: number): Fault {
    const { name } = this.#wire;
    const message = `The credential for the provider ${name} did not come within ${waitedMs} ms.`;
    return new Fault(FaultReason.PROVIDER_CREDENTIAL_UNAVAILABLE, message, { facts: { provider: name } });
  }

  #timeOut(message: string): void {
    this.#fail(new Fault(FaultReason.PROVIDER_TIMEOUT, message, { facts: { provider: this.#wire.name } }));
  }

  #addRefusal(refused: { readonly pieces: Uint8Array[]; bytes: number }, bytes: Uint8Array): void {
    const room = refusalBytesMax - refused.bytes;
    refused.pieces.push(bytes.byteLength > room ? bytes.subarray(0, room) : bytes);
    refused.bytes += Math.min(bytes.byteLength, room);
    if (refused.bytes >= refusalBytesMax) {
      const full = this.#refused;
      if (full !== undefined) this.#fail(this.#refusal(full));
    }
  }

  #refusal(refused: { readonly status: number; readonly headers: UpstreamHeaders; readonly pieces: Uint8Array[] }): Fault {
    try {
      const fault = this.#wire.client.readFault({
        status: refused.status,
        header: (name) => refused.headers.get(name),
        body: Buffer.concat(refused.pieces),
        nowMs: this.#parts.clock.wallMs(),
      });
      if (fault.reason === FaultReason.PROVIDER_CREDENTIAL_REFUSED) this.#wire.living?.refused();
      return fault;
    } catch (caught) {
      // What is called by the wire must not throw into it.
      return toFault(caught);
    }
  }

  /** Batches that came before the failure are still given; then the fault is thrown. */
  #fail(fault: Fault): void {
    if (this.#over) return;
    this.#readHeld();
    // What was held may have failed by itself.
    if (this.#over) return;
    this.#fault = this.#concealed(fault);
    this.#finish();
    this.#exchange.abort();
    this.#wakeUp();
  }

  /** Whatever its form, the credential that was sent must not come back in a provider's words. */
  #concealed(fault: Fault): Fault {
    // Each value's last word: others name the kind of credential.
    return withoutSecrets(
      fault,
      this.#authorization.flatMap((value, at) => (at % 2 === 1 ? [value.slice(value.lastIndexOf(" ") + 1)] : [])),
    );
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    this.#stopWatch();
    this.#call.signal.removeEventListener("abort", this.#onAbort);
  }

  /** Answers the door if it waits. */
  #wakeUp(): void {
    const resolve = this.#resolve;
    const reject = this.#reject;
    if (resolve === undefined || reject === undefined) return;
    this.#resolve = undefined;
    this.#reject = undefined;
    const batch = this.#waiting.shift();
    if (batch !== undefined) {
      if (this.#waiting.length === 0) this.#drained();
      resolve({ done: false, value: batch });
    } else if (this.#fault !== undefined) {
      const fault = this.#fault;
      this.#fault = undefined;
      reject(fault);
    } else if (this.#over) resolve(done);
    else {
      this.#resolve = resolve;
      this.#reject = reject;
    }
  }
}

const done: IteratorResult<Batch> = { done: true, value: undefined };

/** Stands for the exchange until there is one. */
const inert: UpstreamExchange = { pause: nothing, resume: nothing, abort: nothing };

function nothing(): void {}

/** Whether there is anything that a caller waits for: a ping, or an envelope, is a sign of life and no progress. */
function hasContent(batches: readonly Batch[]): boolean {
  for (const batch of batches) {
    for (const { event } of batch) {
      switch (event.case) {
        case "start":
        case "heartbeat":
        case "usage":
        case "warning":
        case "decision":
        case undefined:
          break;
        default:
          return true;
      }
    }
  }
  return false;
}

/** What would have been sent, in one request or in several that are alike, and what every filter decided. */
async function* explanation(wire: ProviderWire, call: Call, requests: readonly WrittenRequest[]): AsyncGenerator<Batch> {
  const [written] = requests;
  if (written === undefined) throw new Error("what is explained is written");
  const { decisions, droppedParams } = call.notes;
  const capabilities = wire.client.capabilitiesOf?.(call.target?.model ?? call.request.model) ?? [];
  if (capabilities.length > 0) {
    const facts = capabilities.map(({ parameter, support, how }) => [parameter, how === "" ? support : `${support}: ${how}`]);
    decisions?.push({ filter: "send", outcome: "what becomes of parameters at this model", facts: Object.fromEntries(facts) });
  }
  const bytes = requests.reduce((sum, { body }) => sum + Buffer.byteLength(body), 0);
  const times = requests.length === 1 ? "" : ` in ${requests.length} requests, ${piecesAtOnce} at once`;
  decisions?.push({
    filter: "send",
    outcome: `would send ${bytes} bytes to ${wire.origin}${wire.basePath}${written.path}${times}`,
    facts: {
      provider: wire.name,
      dialect: wire.client.dialect,
      endpoint: wire.origin + wire.basePath + written.path,
      dropped_params: droppedParams.join(", "),
    },
  });
  yield [
    startEvent(call.id, call.target?.model ?? call.request.model, 0, call.target?.route ?? "", wire.name),
    ...written.warnings.map(({ code, field, message }) => warningEvent(code, field, message)),
    ...(decisions ?? []).map((decision) => event("decision", { $typeName: "outrigger.chat.v1.Decision", ...decision })),
    endEvent(),
  ];
}
