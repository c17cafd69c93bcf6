/**
 * What flows through the house: a call, the filters that it passes, and what they may ask of the outside world.
 *
 * Everything here is a type or a few lines on one: this file is what a filter imports, and a filter imports nothing else of ours but types.
 */
import type { AnyRequest, Batch, NativeRequest } from "../proto/chat.ts";
import type { Fault } from "../proto/fault.ts";
import type { ChatRequest } from "../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { Warning } from "../proto/gen/outrigger/chat/v1/events_pb.ts";
import type { Seals } from "./dialects/dialect.ts";

/** A wire format that callers speak, as it is named in records. */
export type DoorName = "openai" | "responses" | "anthropic" | "grpc" | "grpc-web" | "connect";

/** One request and its whole answer. Read-only: a filter that changes something passes a new call to `next`. */
export interface Call {
  /** Names the call in records and in `x-request-id`. */
  readonly id: string;
  readonly door: DoorName;
  /** What the caller asks: an answer in a conversation, or vectors. A filter that looks into it asks `$typeName` which. */
  readonly request: AnyRequest;
  /** The same request as it came, if the door's dialect has a lossless form. A filter that changes `request` leaves this out. */
  readonly native: NativeRequest | undefined;
  /** Whether the answer is passed on as it arrives. */
  readonly streaming: boolean;
  /** Whether the caller's own dialect shows usage in this stream; where it does not, native bytes leave it out. */
  readonly nativeStreamUsage: boolean;
  /** Whether to decide everything and send nothing. */
  readonly validateOnly: boolean;
  /** Whether only to count the tokens of the request, which is a conversation: the answer is usage and no words. */
  readonly countOnly: boolean;
  /** What the caller showed to prove who it is, or undefined. Never logged. */
  readonly credential: Secret | undefined;
  /** W3C trace context of the caller, or undefined. */
  readonly traceparent: string | undefined;
  /** Aborted when the caller leaves, when the deadline passes and when the sidecar stops; its reason is a `Fault`. */
  readonly signal: CallSignal;
  /** When the door had the whole request, on the monotonic clock, in milliseconds. */
  readonly startedAtMs: number;
  /** When the call must be over, on the monotonic clock, in milliseconds; `Infinity` without a deadline. */
  readonly deadlineAtMs: number;
  /** Who calls; set by `identify`. */
  readonly consumer: CallConsumer | undefined;
  /** Which route and target were chosen; set by `route`. */
  readonly target: CallTarget | undefined;
  /** What the caller is told right behind the start of the answer, because a filter changed what is sent. */
  readonly warnings: readonly Warning[];
  /** Sees each batch of the provider's answer as soon as it is read, before any filter does; set by `recall`. It must be quick. */
  readonly watch: ((batch: Batch) => void) | undefined;
  /** What was decided and found out on the way, for `record` and for explanations. The one thing that filters write to. */
  readonly notes: CallNotes;
}

/**
 * What tells a call that nobody waits for it any more. An `AbortSignal` is one; what costs less than the machinery of events, which
 * every call would pay for and few would use, is one too.
 */
export interface CallSignal {
  readonly aborted: boolean;
  readonly reason: unknown;
  addEventListener(type: "abort", listener: () => void): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

/** A call whose request is a conversation. */
export interface ChatCall extends Call {
  readonly request: ChatRequest;
}

/** Whether a call's request is a conversation, for filters that look into messages. */
export function isChat(call: Call): call is ChatCall {
  return call.request.$typeName === "outrigger.chat.v1.ChatRequest";
}

/** Who calls, as far as filters need to know. */
export interface CallConsumer {
  readonly namespace: string;
  readonly name: string;
  readonly team: string;
  /** Names of the routes that it may use; empty means every route that does not name its consumers. */
  readonly routes: ReadonlySet<string>;
}

/** Where a call goes. */
export interface CallTarget {
  /** The route's name. */
  readonly route: string;
  /** The provider's name in policy. */
  readonly provider: string;
  /** The model's name at the provider. */
  readonly model: string;
  /** Whether parameters that the model cannot obey are left out; otherwise the call is refused. */
  readonly dropUnsupported: boolean;
  /** Sends the call there. */
  readonly send: Next;
  /** What the target wants of thinking that it sealed, or undefined if it seals none. */
  readonly seals: Seals | undefined;
}

/** What filters found out about a call. Written to by filters, read by `record` at the end. */
export interface CallNotes {
  /** The consumer's name, once known. */
  consumer: string;
  team: string;
  route: string;
  provider: string;
  /** The model's name at the provider. */
  model: string;
  /** Attempts at a provider. */
  attempts: number;
  /** When the provider's first content arrived, on the monotonic clock, in milliseconds; 0 if none did. */
  firstContentAtMs: number;
  /** Whether the count that was asked for is an estimate, since the provider cannot count. */
  estimated: boolean;
  /** Names of request parameters that were left out; of many the first, and how many more. */
  droppedParams: string[];
  /** What each filter decided, if the caller asked for an explanation; undefined otherwise, so that nothing is made in vain. */
  decisions: { filter: string; outcome: string; facts: Record<string, string> }[] | undefined;
}

/** Fresh notes. */
export function newNotes(explain: boolean): CallNotes {
  return {
    consumer: "",
    team: "",
    route: "",
    provider: "",
    model: "",
    attempts: 0,
    firstContentAtMs: 0,
    estimated: false,
    droppedParams: [],
    decisions: explain ? [] : undefined,
  };
}

/** The rest of the way: takes a call, gives its answer in batches of events. Failures are thrown as `Fault`. */
export type Next = (call: Call) => AsyncIterable<Batch>;

/** A step of the way. One with nothing to do returns `next(call)`; one that wraps works on batches, never event by event. */
export type Filter = (call: Call, next: Next) => AsyncIterable<Batch>;

/** Looks at an answer that passes by. */
export interface AnswerWatcher {
  /** Sees a batch, and returns it or another one in its place. */
  pass(batch: Batch): Batch;
  /** The answer is over: with what it failed with, or undefined if it ended or was left. Called once, if the answer ever began. */
  over(failure: unknown): void;
}

/**
 * Passes an answer on with a watcher beside it. `begin` is called when the first batch is asked for.
 *
 * No generator: one would hold the batch that it gave last, with the bytes of a whole read, for as long as a slow caller takes, and make
 * two more promises for each.
 */
export function watchAnswer(begin: () => AsyncIterable<Batch>, watcher: AnswerWatcher): AsyncIterable<Batch> {
  return new WatchedAnswer(begin, watcher);
}

class WatchedAnswer implements AsyncIterableIterator<Batch> {
  readonly #begin: () => AsyncIterable<Batch>;
  /** The innermost first, which sees a batch first. */
  readonly #watchers: AnswerWatcher[];
  readonly #onResult = (result: IteratorResult<Batch>) => this.#take(result);
  readonly #onFailure = (failure: unknown) => this.#fail(failure, 0);
  #answer: AsyncIterator<Batch> | undefined;
  #asked = false;
  #over = false;

  constructor(begin: () => AsyncIterable<Batch>, watcher: AnswerWatcher) {
    this.#begin = begin;
    this.#watchers = [watcher];
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<Batch>> {
    if (this.#over) return Promise.resolve(nothingMore);
    try {
      this.#answer ??= this.#started();
    } catch (failure) {
      this.#end(failure, 0);
      return Promise.reject(failure);
    }
    this.#asked = true;
    return this.#answer.next().then(this.#onResult, this.#onFailure);
  }

  /** The caller leaves. What it asked for and did not get yet still tells how the answer ended, such as by its deadline. */
  return(): Promise<IteratorResult<Batch>> {
    if (this.#answer !== undefined && !this.#asked) this.#end(undefined, 0);
    const answer = this.#answer;
    if (answer === undefined) this.#over = true;
    return answer?.return?.() ?? Promise.resolve(nothingMore);
  }

  /** Begins the answer. Where that is watched too, its watchers look from here: one step and one promise less for each batch. */
  #started(): AsyncIterator<Batch> {
    let answer = this.#begin();
    while (answer instanceof WatchedAnswer && answer.#answer === undefined && !answer.#over) {
      // Whoever else holds it finds it over.
      answer.#over = true;
      this.#watchers.unshift(...answer.#watchers);
      answer = answer.#begin();
    }
    return answer[Symbol.asyncIterator]();
  }

  #take(result: IteratorResult<Batch>): IteratorResult<Batch> {
    this.#asked = false;
    if (result.done === true) {
      this.#end(undefined, 0);
      return result;
    }
    let batch = result.value;
    for (let index = 0; index < this.#watchers.length; index++) {
      try {
        batch = (this.#watchers[index] as AnswerWatcher).pass(batch);
      } catch (failure) {
        // A watcher that fails must not leave the provider talking to nobody.
        this.#answer?.return?.().then(undefined, ignore);
        return this.#fail(failure, index);
      }
    }
    return batch === result.value ? result : { done: false, value: batch };
  }

  #fail(failure: unknown, from: number): never {
    this.#asked = false;
    this.#end(failure, from);
    throw failure;
  }

  /** Tells every watcher. Those before `from` saw nothing fail: for them the answer was left. */
  #end(failure: unknown, from: number): void {
    if (this.#over) return;
    this.#over = true;
    let broken: { readonly error: unknown } | undefined;
    this.#watchers.forEach((watcher, index) => {
      try {
        watcher.over(index < from ? undefined : failure);
      } catch (error) {
        // The others keep count of what is under way.
        broken ??= { error };
      }
    });
    if (broken !== undefined) throw broken.error;
  }
}

function ignore(): void {}

const nothingMore: IteratorResult<Batch> = { done: true, value: undefined };

/** Something that must not be seen: it shows itself as `[secret]` wherever text is made of it. */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The secret itself. Call this only where it is compared or sent. */
  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return "[secret]";
  }

  toJSON(): string {
    return "[secret]";
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return "[secret]";
  }
}

/** Time, as an argument. */
export interface Clock {
  /** Milliseconds on a clock that only goes forward, with fractions. */
  monotonicMs(): number;
  /** Milliseconds since 1970. */
  wallMs(): number;
  /** Calls `then` after `delayMs`; the function returned takes that back. */
  after(delayMs: number, then: () => void): () => void;
}

/** Randomness, as an argument. */
export interface Random {
  /** A number from 0 up to but not including 1. */
  next(): number;
  /** A new identifier, unique and not guessable. */
  id(): string;
}

/** A request to a provider, or to whoever gives its credential, complete. */
export interface UpstreamRequest {
  /** Every call is a POST, which it is unless given. */
  readonly method?: "GET" | "POST" | "PUT";
  /** Scheme, host and port, such as `https://api.openai.com`. */
  readonly origin: string;
  /** Path and query. */
  readonly path: string;
  /** Names in lower case and values, in turn. */
  readonly headers: readonly string[];
  readonly body: string | Uint8Array;
  /** For a connection, TLS included. */
  readonly connectTimeoutMs: number;
  /** Connections to this origin at most. */
  readonly connections: number;
}

/** What an upstream tells of the answer to one request. After `end` or `error` nothing more comes. */
export interface UpstreamHandler {
  /** The request has a connection and is being written. Until then it waits for one. */
  begun(): void;
  /** Whether more bytes are wanted now. If not, those that come are still handed on, and no more are read until `resume`. */
  readonly wanting: boolean;
  /** The status line and headers came. Names in lower case; of repeated headers the last. */
  head(status: number, headers: UpstreamHeaders): void;
  /** Bytes came; the handler may keep them. */
  data(bytes: Uint8Array): void;
  /** The answer is whole. */
  end(): void;
  /** The answer will not come, or not wholly. `sent` tells whether the request may have reached the provider. */
  error(error: Error, sent: boolean): void;
}

/** The headers of a provider's answer. */
export interface UpstreamHeaders {
  /** The value by its name in lower case, or undefined. */
  get(name: string): string | undefined;
}

/** A running request. */
export interface UpstreamExchange {
  /** Stops reading from the provider's socket, so that it stops sending. */
  pause(): void;
  resume(): void;
  /** Closes the provider's socket at once. No more is heard of the request. */
  abort(): void;
}

/**
 * Sends one request. The one way out of the sidecar, and the interface behind which the wire can be replaced: nothing above it knows
 * which HTTP client is underneath.
 */
export type Upstream = (request: UpstreamRequest, handler: UpstreamHandler) => UpstreamExchange;

/** All the policy that holds at one moment, compiled. A door takes it once for a call, so that no call sees two policies. */
export interface Policy {
  /** The hash of its content. */
  readonly root: string;
  /** The whole way of a call, from `identify` to `send`. */
  readonly answer: Next;
  /** The models that the holder of a credential may use, sorted by name. Throws a fault for a credential that no consumer has. */
  models(credential: Secret | undefined): readonly ListedModel[];
}

/** A model name that a caller may use. */
export interface ListedModel {
  readonly name: string;
  /** The route that answers. */
  readonly route: string;
}

/** What a door may ask of the house it leads into. */
export interface House {
  /** The policy that holds now. */
  policy(): Policy;
  readonly clock: Clock;
  readonly random: Random;
  /** Whether the sidecar is stopping: no new calls are taken. */
  draining(): boolean;
  /** Records a request that was refused before it became a call, so that nothing fails unseen. */
  refused(door: DoorName, requestId: string, fault: Fault): void;
  /** Writes to the log that something happened which no caller can be told. */
  warn(message: string, facts: Readonly<Record<string, string | number>>, error?: unknown): void;
}
