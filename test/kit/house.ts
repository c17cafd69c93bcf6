import { create } from "@bufbuild/protobuf";
import { type Batch, endEvent, event, textEvent } from "../../proto/chat.ts";
import { Fault, FaultReason } from "../../proto/fault.ts";
import { ChatRequestSchema, Role } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { Call, Clock, DoorName, House, ListedModel, Policy, Secret } from "../../sidecar/call.ts";
import type { AnswerWriter, ReadRequest, ServerHalf } from "../../sidecar/dialects/dialect.ts";
import { systemClock } from "../../sidecar/io/clock.ts";

/** A house whose answers a test decides, and which remembers what it was told. */
export class FakeHouse implements House {
  readonly clock: Clock;
  readonly random = { next: () => 0.5, id: () => `id-${++this.#ids}` };
  readonly calls: Call[] = [];
  readonly refusals: { door: DoorName; id: string; fault: Fault }[] = [];
  readonly warnings: { message: string; error: unknown }[] = [];
  models: readonly ListedModel[] = [{ name: "small", route: "small-route" }];
  drains = false;
  #ids = 0;
  #answer: (call: Call) => AsyncIterable<Batch>;

  constructor(answer: (call: Call) => AsyncIterable<Batch> = hello, clock: Clock = systemClock) {
    this.#answer = answer;
    this.clock = clock;
  }

  policy(): Policy {
    return {
      root: "root",
      answer: (call) => {
        this.calls.push(call);
        return this.#answer(call);
      },
      models: (credential: Secret | undefined) => {
        if (credential?.reveal() === "wrong") throw new Fault(FaultReason.CREDENTIAL_INVALID, "No consumer has this key.");
        return this.models;
      },
    };
  }

  /** From now on calls are answered so. */
  answerWith(answer: (call: Call) => AsyncIterable<Batch>): void {
    this.#answer = answer;
  }

  draining(): boolean {
    return this.drains;
  }

  refused(door: DoorName, id: string, fault: Fault): void {
    this.refusals.push({ door, id, fault });
  }

  warn(message: string, _facts: Readonly<Record<string, string | number>>, error?: unknown): void {
    this.warnings.push({ message, error });
  }
}

/** Two words and an end. */
export async function* hello(): AsyncGenerator<Batch> {
  yield [textEvent(0, "hel"), textEvent(0, "lo")];
  yield [endEvent()];
}

/** An answer that a test hands over piece by piece. */
export class HandAnswer implements AsyncIterable<Batch>, AsyncIterator<Batch> {
  /** How often the next piece was asked for. */
  pulls = 0;
  /** Whether the loop over it was left. */
  left = false;
  readonly #waiting: PromiseWithResolvers<IteratorResult<Batch>>[] = [];
  readonly #ready: (Batch | Fault | Error | "end")[] = [];

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<Batch>> {
    this.pulls += 1;
    const promise = Promise.withResolvers<IteratorResult<Batch>>();
    this.#waiting.push(promise);
    this.#settle();
    return promise.promise;
  }

  return(): Promise<IteratorResult<Batch>> {
    this.left = true;
    return Promise.resolve({ done: true, value: undefined });
  }

  /** Hands over the next piece, the failure, or the end of the loop. */
  give(piece: Batch | Fault | Error | "end"): void {
    this.#ready.push(piece);
    this.#settle();
  }

  /** Hands over one piece of text. */
  text(text: string): void {
    this.give([textEvent(0, text)]);
  }

  /** Hands over the end event and the end of the loop. */
  finish(): void {
    this.give([endEvent()]);
    this.give("end");
  }

  #settle(): void {
    while (this.#waiting.length > 0 && this.#ready.length > 0) {
      const promise = this.#waiting.shift();
      const piece = this.#ready.shift();
      if (promise === undefined || piece === undefined) return;
      if (piece === "end") promise.resolve({ done: true, value: undefined });
      else if (piece instanceof Error) promise.reject(piece);
      else promise.resolve({ done: false, value: piece });
    }
  }
}

/**
 * A small dialect of its own, so that tests of doors depend on no real one: a request is `{"model","stream"}`; a stream is `data: TEXT`
 * lines and `done`; a unary answer is all text; faults are their names.
 */
export const testDialect: ServerHalf = {
  dialect: "test",
  readRequest(body): ReadRequest {
    let read: { model?: unknown; stream?: unknown };
    try {
      read = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
    } catch (cause) {
      throw new Fault(FaultReason.REQUEST_INVALID, "The body is not JSON.", { cause });
    }
    if (typeof read.model !== "string") throw new Fault(FaultReason.REQUEST_INVALID, "model must be a string.", { field: "model" });
    const request = create(ChatRequestSchema, {
      model: read.model,
      messages: [{ role: Role.USER, parts: [{ content: { case: "text", value: { text: "hi" } } }] }],
    });
    return {
      request,
      native: { dialect: "test", text: Buffer.from(body).toString() },
      streaming: read.stream === true,
      streamUsage: read.stream === true,
    };
  },
  writeAnswer(read): AnswerWriter {
    return read.streaming ? new StreamWriter() : new UnaryWriter();
  },
  writeFault: (fault, requestId) => JSON.stringify({ fault: fault.kind.name, message: fault.message, requestId }),
};

class StreamWriter implements AnswerWriter {
  write(batch: Batch): string | undefined {
    const text = textOfBatch(batch);
    return text === "" ? undefined : `data: ${text}\n\n`;
  }

  end(): string {
    return "done\n";
  }

  fault(fault: Fault): string {
    return `fault: ${fault.kind.name}\n\n`;
  }
}

class UnaryWriter implements AnswerWriter {
  #text = "";

  write(batch: Batch): undefined {
    this.#text += textOfBatch(batch);
  }

  end(): string {
    return this.#text;
  }

  fault(fault: Fault): string {
    throw new Error(`a unary answer that began cannot fail, and failed with ${fault.kind.name}`);
  }
}

function textOfBatch(batch: Batch): string {
  let text = "";
  for (const { event } of batch) if (event.case === "text") text += event.value.text;
  return text;
}

/** A batch of one piece of text. */
export function textBatch(text: string): Batch {
  return [textEvent(0, text)];
}

/** A batch of one sign of life. */
export function heartbeatBatch(): Batch {
  return [event("heartbeat", { $typeName: "outrigger.chat.v1.Heartbeat" })];
}
