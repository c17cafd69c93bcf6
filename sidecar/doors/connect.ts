/**
 * The door for callers that speak gRPC, gRPC-Web or Connect.
 *
 * The two chat methods, uncompressed, are driven by hand; everything else goes to Connect's generic stack, which costs many times as
 * much and knows every form. Both make the same calls and tell the same faults.
 */
import { Fault, FaultReason, toFault } from "../../proto/fault.ts";
import { ChatCompletionService } from "../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import type { House } from "../call.ts";
import { credentialOf, traceparentOf } from "./caller.ts";
import type { Door, Exchange } from "./exchange.ts";
import { pump } from "./pump.ts";
import { StreamAnswer, UnaryAnswer } from "./rpc/answers.ts";
import { envelopeHead } from "./rpc/envelope.ts";
import type { GenericStack } from "./rpc/generic.ts";
import { answerMetadata } from "./rpc/metadata.ts";
import { plainRefusal, refuse, requestMessage, timeoutOf } from "./rpc/reading.ts";
import { checkedChat, readChat } from "./rpc/requests.ts";
import type { ServicesOptions } from "./rpc/services.ts";
import { WebTextExchange, webTextPrefix } from "./rpc/webText.ts";
import { allWires, mediaType, type Wire } from "./rpc/wire.ts";

/** What this door is told beside its house. */
export interface RpcDoorOptions extends ServicesOptions {
  /** Whether everything takes the generic stack. */
  readonly generic: boolean;
}

/** Opens the door. */
export function rpcDoor(house: House, options: RpcDoorOptions): Door {
  return new RpcDoor(house, options);
}

const createChat = `/${ChatCompletionService.typeName}/${ChatCompletionService.method.createChatCompletion.name}`;
const streamChat = `/${ChatCompletionService.typeName}/${ChatCompletionService.method.streamChatCompletion.name}`;

class RpcDoor implements Door {
  readonly #house: House;
  readonly #options: RpcDoorOptions;
  readonly #wires = allWires();
  #stack: GenericStack | undefined;
  #loading: Promise<GenericStack> | undefined;

  constructor(house: House, options: RpcDoorOptions) {
    this.#house = house;
    this.#options = options;
  }

  accepts(exchange: Exchange): boolean {
    const { path } = exchange;
    if (path.startsWith("/outrigger.") || path.startsWith("/grpc.")) return true;
    // Whoever speaks these wires expects to be refused in them, wherever it knocks.
    const contentType = exchange.header("content-type");
    return contentType !== undefined && (contentType.startsWith("application/grpc") || contentType.startsWith("application/connect+"));
  }

  open(outer: Exchange): void {
    const type = mediaType(outer.header("content-type"));
    const exchange = type.startsWith(webTextPrefix) ? new WebTextExchange(outer) : outer;
    const id = this.#house.random.id();
    const { path } = exchange;
    const wire = this.#wires.get(exchange === outer ? type : mediaType(exchange.header("content-type")));
    if (exchange.method === "POST" && wire !== undefined && !this.#options.generic && this.#isHot(exchange, wire)) {
      this.#answerByHand(exchange, wire, path === streamChat, id);
      return;
    }
    const stack = this.#stack;
    if (stack !== undefined) this.#serve(stack, exchange, wire, id);
    else {
      this.#load()
        .then((loaded) => this.#serve(loaded, exchange, wire, id))
        .catch((caught: unknown) => {
          this.#house.warn("A request could not be given to the services that are not driven by hand.", { request: id }, caught);
          try {
            if (exchange.writable) refuse(this.#house, exchange, wire, id, toFault(caught));
          } catch {
            exchange.reset();
          }
        });
    }
  }

  #load(): Promise<GenericStack> {
    this.#loading ??= import("./rpc/services.ts")
      .then(({ rpcServices }) => {
        this.#stack = rpcServices(this.#house, this.#options);
        return this.#stack;
      })
      .catch((caught: unknown) => {
        // Such as for want of descriptors: the next one who asks may have more luck.
        this.#loading = undefined;
        throw caught;
      });
    return this.#loading;
  }

  #serve(stack: GenericStack, exchange: Exchange, wire: Wire | undefined, id: string): void {
    const { path } = exchange;
    const handler = stack.find(path);
    if (handler === undefined) {
      this.#turnAway(exchange, wire, id, 404, noMethod(path), []);
      return;
    }
    const isGet = exchange.method === "GET" && handler.allowedMethods.includes("GET");
    if (!isGet && exchange.method !== "POST") {
      this.#turnAway(exchange, undefined, id, 405, wrongVerb(exchange), ["allow", handler.allowedMethods.join(", ")]);
      return;
    }
    if (isGet) {
      stack.serve(exchange, handler, undefined, id);
      return;
    }
    const kind = handler.method.methodKind === "unary" ? "unary" : "stream";
    if (wire === undefined || (wire.takes !== "both" && wire.takes !== kind)) {
      const accepted = [...this.#wires].filter(([, { takes }]) => takes === "both" || takes === kind).map(([type]) => type);
      this.#turnAway(exchange, undefined, id, 415, wrongType(exchange, accepted), ["accept-post", accepted.join(", ")]);
      return;
    }
    const needsHttp2 = wire.door === "grpc" || handler.method.methodKind === "bidi_streaming";
    if (needsHttp2 && exchange.protocol === "http1") {
      this.#turnAway(exchange, undefined, id, 505, needsNewerHttp(), []);
      return;
    }
    stack.serve(exchange, handler, wire, id);
  }

  #isHot(exchange: Exchange, wire: Wire): boolean {
    const { path } = exchange;
    if (path === streamChat ? wire.takes === "unary" : path !== createChat || wire.takes === "stream") return false;
    if (wire.door === "grpc" && exchange.protocol === "http1") return false;
    const encoding = exchange.header(wire.encodingHeader);
    return encoding === undefined || encoding === "identity";
  }

  #answerByHand(exchange: Exchange, wire: Wire, streaming: boolean, id: string): void {
    const { requestBytesMax } = this.#options;
    let timeoutMs: number;
    try {
      timeoutMs = timeoutOf(exchange, wire);
    } catch (caught) {
      refuse(this.#house, exchange, wire, id, toFault(caught));
      return;
    }
    exchange.body(wire.enveloped ? requestBytesMax + envelopeHead : requestBytesMax, (fault, body) => {
      if (fault === undefined) this.#answer(exchange, wire, streaming, id, timeoutMs, body);
      else refuse(this.#house, exchange, wire, id, fault);
    });
  }

  #answer(exchange: Exchange, wire: Wire, streaming: boolean, id: string, timeoutMs: number, body: Uint8Array): void {
    const house = this.#house;
    let asked: ReturnType<typeof readRequest>;
    try {
      asked = readRequest(wire, streaming, requestMessage(wire, "identity", body, this.#options.requestBytesMax).message);
    } catch (caught) {
      if (!(caught instanceof Fault)) house.warn("A request could not be read for a reason that nobody foresaw.", { request: id }, caught);
      refuse(house, exchange, wire, id, toFault(caught));
      return;
    }
    const parts = {
      id,
      door: wire.door,
      request: asked.request,
      native: undefined,
      streaming,
      nativeStreamUsage: false,
      validateOnly: asked.validateOnly,
      credential: credentialOf(exchange),
      traceparent: traceparentOf(exchange),
      timeoutMs,
    };
    pump(house, exchange, parts, streaming ? new StreamAnswer(wire, id) : new UnaryAnswer(wire, id));
  }

  /** Refuses what cannot be served, in the words of the wire where there is one, otherwise under an HTTP status that says the most. */
  #turnAway(exchange: Exchange, wire: Wire | undefined, id: string, status: number, fault: Fault, headers: readonly string[]): void {
    if (wire?.enveloped) {
      refuse(this.#house, exchange, wire, id, fault);
      return;
    }
    this.#house.refused(wire?.door ?? "connect", id, fault);
    const refusal = plainRefusal(fault, id, [...answerMetadata(id, undefined), ...headers]);
    exchange.head(status, refusal.headers);
    exchange.end(refusal.data);
  }
}

function readRequest(wire: Wire, streaming: boolean, message: Uint8Array) {
  const { chat, validateOnly } = readChat(message, streaming, wire.json);
  return { request: checkedChat(chat), validateOnly };
}

function noMethod(path: string): Fault {
  const shown = path.slice(0, 200);
  return new Fault(FaultReason.PATH_NOT_FOUND, `There is no method ${shown} here.`, { facts: { path: shown } });
}

function wrongVerb({ method, path }: Exchange): Fault {
  return new Fault(FaultReason.METHOD_NOT_ALLOWED, `${path} does not take ${method}. Use POST.`, { facts: { method, path } });
}

function wrongType(exchange: Exchange, accepted: readonly string[]): Fault {
  const seen = exchange.header("content-type")?.slice(0, 100);
  const message = `This method takes the content types ${accepted.join(", ")}. The request ${seen === undefined ? "has none" : `has '${seen}'`}.`;
  return new Fault(FaultReason.ENCODING_UNSUPPORTED, message, { facts: { content_type: seen ?? "" } });
}

function needsNewerHttp(): Fault {
  return new Fault(FaultReason.ENCODING_UNSUPPORTED, "This needs HTTP/2. Over HTTP/1.1 there are Connect and gRPC-Web.");
}
