/** Reads answers with a dialect's client half and writes them with a server half, without a provider or a door. */
import { type Batch, Collector } from "../../proto/chat.ts";
import type { Fault } from "../../proto/fault.ts";
import type { ChatRequest } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent, ChatResponse } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";
import type { AnswerInput, ClientHalf, ReadRequest, ServerHalf } from "../../sidecar/dialects/dialect.ts";
import { chatRequest } from "./call.ts";

/** What became of an answer's bytes. */
export interface Reading {
  readonly batches: readonly Batch[];
  readonly events: readonly ChatEvent["event"][];
  readonly response: ChatResponse;
  readonly complete: boolean;
  readonly failure: Fault | undefined;
  /** The bytes that the batches carry, joined. */
  readonly native: Buffer;
}

/** How an answer is read where a test does not care. */
export function answerInput(changes: Partial<AnswerInput> = {}): AnswerInput {
  let made = 0;
  return {
    request: chatRequest(),
    streaming: true,
    model: "upstream-model",
    route: "main",
    provider: "there",
    nativeStreamUsage: true,
    answerBytesMax: 1_000_000,
    newId: (prefix) => `${prefix}${++made}`,
    ...changes,
  };
}

/** Reads an answer that comes in `pieces`. */
export function readPieces(client: ClientHalf, pieces: Iterable<Uint8Array | string>, changes: Partial<AnswerInput> = {}): Reading {
  const reader = client.readAnswer(answerInput(changes));
  const batches: Batch[] = [];
  for (const piece of pieces) {
    batches.push(...reader.read(typeof piece === "string" ? Buffer.from(piece) : piece));
    if (reader.failure !== undefined) break;
  }
  if (reader.failure === undefined) batches.push(...reader.end());
  const collector = new Collector();
  for (const batch of batches) collector.add(batch);
  return {
    batches,
    events: batches.flatMap((batch) => batch.map(({ event }) => event)),
    response: collector.response,
    complete: collector.complete,
    failure: reader.failure,
    native: Buffer.concat(batches.flatMap(({ native }) => (native === undefined ? [] : [native.bytes]))),
  };
}

/** Writes batches as a door does. `native` says whether the bytes that they carry may be used. */
export function writeBatches(
  server: ServerHalf,
  batches: readonly (readonly ChatEvent[])[],
  { streaming = true, native = false, request }: { streaming?: boolean; native?: boolean; request?: ChatRequest } = {},
): string {
  const read: ReadRequest = {
    request: request ?? chatRequest(),
    native: { dialect: server.dialect, text: "{}" },
    streaming,
    streamUsage: true,
  };
  const writer = server.writeAnswer(read, "req-1");
  let text = "";
  for (const batch of batches) text += textOf(writer.write(native ? batch : [...batch]));
  return text + textOf(writer.end());
}

function textOf(data: Uint8Array | string | undefined): string {
  if (data === undefined) return "";
  return typeof data === "string" ? data : Buffer.from(data).toString();
}
