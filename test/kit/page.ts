/**
 * A page that calls a sidecar from another origin, as a web application does. Bundled by the browser test; what it offers the test hangs
 * on the window.
 */
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { Collector, textOf } from "../../proto/chat.ts";
import { ErrorInfoSchema } from "../../proto/gen/google/rpc/error_details_pb.ts";
import { ChatCompletionService } from "../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { Role } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";

/** How the page calls. */
export interface PageTransport {
  readonly protocol: "connect" | "grpc-web";
  readonly useBinaryFormat: boolean;
  readonly baseUrl: string;
}

/** A failure as the page saw it. */
export interface PageFailure {
  readonly code: string;
  readonly reason: string | undefined;
}

/** What the page can be asked to do. */
export interface Page {
  create(how: PageTransport, model: string): Promise<{ text: string } | PageFailure>;
  stream(how: PageTransport, model: string): Promise<{ pieces: string[]; complete: boolean } | PageFailure>;
  /** Leaves the stream at its first piece of text. */
  abort(how: PageTransport, model: string): Promise<PageFailure>;
}

function transportOf({ protocol, useBinaryFormat, baseUrl }: PageTransport): Transport {
  return protocol === "connect"
    ? createConnectTransport({ baseUrl, useBinaryFormat })
    : createGrpcWebTransport({ baseUrl, useBinaryFormat });
}

function chat(model: string) {
  return { model, messages: [{ role: Role.USER, parts: [{ content: { case: "text" as const, value: { text: "Greet me" } } }] }] };
}

function failureOf(caught: unknown): PageFailure {
  const error = ConnectError.from(caught);
  return { code: Code[error.code] ?? String(error.code), reason: error.findDetails(ErrorInfoSchema)[0]?.reason };
}

const page: Page = {
  async create(how, model) {
    try {
      const answer = await createClient(ChatCompletionService, transportOf(how)).createChatCompletion({ chat: chat(model) });
      return { text: answer.chat === undefined ? "" : textOf(answer.chat) };
    } catch (caught) {
      return failureOf(caught);
    }
  },
  async stream(how, model) {
    const collector = new Collector();
    const pieces: string[] = [];
    try {
      for await (const { events } of createClient(ChatCompletionService, transportOf(how)).streamChatCompletion({ chat: chat(model) })) {
        collector.add(events);
        for (const { event } of events) if (event.case === "text" && event.value.text !== "") pieces.push(event.value.text);
      }
      return { pieces, complete: collector.complete };
    } catch (caught) {
      return failureOf(caught);
    }
  },
  async abort(how, model) {
    const controller = new AbortController();
    const client = createClient(ChatCompletionService, transportOf(how));
    try {
      for await (const { events } of client.streamChatCompletion({ chat: chat(model) }, { signal: controller.signal })) {
        if (events.some(({ event }) => event.case === "text")) controller.abort();
      }
      return { code: "none", reason: undefined };
    } catch (caught) {
      return failureOf(caught);
    }
  },
};

Object.assign(globalThis, { page });
