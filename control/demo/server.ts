/**
 * The demo provider: an HTTP server that speaks OpenAI's format for chats and for vectors, so that nothing on the way to it is special.
 *
 * It answers from nothing but the request and a seed. Latency and faults are part of a model's name (`models.ts`). Time and timers come
 * from outside.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { createRequire } from "node:module";
import { makeAnswer } from "./answer.ts";
import { type DemoEmbeddingRequest, readEmbeddingRequest, writeEmbeddings } from "./embeddings.ts";
import { PromptMemory } from "./memory.ts";
import { type Behaviour, type DemoModel, modelNames, readModel } from "./models.ts";
import { type DemoRequest, Refusal, readRequest } from "./request.ts";
import { Seeded } from "./seeded.ts";
import { writeBody, writeChunks } from "./wire.ts";

// An import would load Node's own undici with it (`sidecar/doors/nodeHttp.ts`), a tenth of the demo's whole start.
const { createServer } = createRequire(import.meta.url)("node:http") as typeof import("node:http");

/** Time, as an argument. */
export interface DemoClock {
  /** Milliseconds since 1970. */
  wallMs(): number;
  /** Calls `then` after `delayMs`; the function returned takes that back. */
  after(delayMs: number, then: () => void): () => void;
}

/** What a demo provider needs to run. */
export interface DemoSettings {
  /** The address to listen on. */
  readonly host: string;
  /** The port, or 0 for any free one. */
  readonly port: number;
  /** Decides all that is made up. The same seed and the same requests in the same order give the same answers and faults. */
  readonly seed: string;
  readonly clock: DemoClock;
}

/** A running demo provider. */
export interface DemoProvider {
  readonly port: number;
  /** The endpoint for a provider in policy, such as `http://127.0.0.1:40213/v1`. */
  readonly endpoint: string;
  /** Stops at once; answers under way are cut off. */
  close(): Promise<void>;
}

const bodyBytesMax = 32 * 1024 * 1024; // several pictures; a sidecar takes 10 MiB, and the provider should not be what is full first
const writeBytes = 16 * 1024; // about what one TLS record or one read of a fast network holds

/** Starts the demo provider. */
export async function startDemoProvider(settings: DemoSettings): Promise<DemoProvider> {
  const desk = new Desk(settings);
  const server = createServer((request, response) => desk.take(request, response));
  const port = await listen(server, settings);
  const host = settings.host.includes(":") ? `[${settings.host}]` : settings.host;
  return {
    port,
    endpoint: `http://${host}:${port}/v1`,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, settings: DemoSettings): Promise<number> {
  return new Promise((done, failed) => {
    server.once("error", failed);
    server.listen(settings.port, settings.host, () => {
      server.off("error", failed);
      const address = server.address();
      done(typeof address === "object" && address !== null ? address.port : settings.port);
    });
  });
}

/** Takes requests and remembers what must be remembered between them. */
class Desk {
  readonly #settings: DemoSettings;
  readonly #memory = new PromptMemory();
  readonly #mood: Seeded;
  #requests = 0;

  constructor(settings: DemoSettings) {
    this.#settings = settings;
    this.#mood = new Seeded(`${settings.seed}/flaky`);
  }

  take(request: IncomingMessage, response: ServerResponse): void {
    this.#requests += 1;
    response.setHeader("x-request-id", `req_demo_${String(this.#requests).padStart(8, "0")}`);
    refusing(response, () => this.#route(request, response));
  }

  #route(request: IncomingMessage, response: ServerResponse): void {
    const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
    const posted = path === "/v1/chat/completions" || path === "/v1/embeddings";
    if (!posted && path !== "/v1/models" && !path.startsWith("/v1/models/")) {
      throw new Refusal(`Invalid URL (${request.method} ${path})`, null, null, 404);
    }
    if (request.method !== (posted ? "POST" : "GET")) {
      throw new Refusal(`Not allowed to ${request.method} on ${path}.`, null, "method_not_supported", 405);
    }
    if (posted) {
      this.#readBody(request, response, (body) => {
        if (path === "/v1/embeddings") this.#embed(readEmbeddingRequest(body), response);
        else this.#answer(readRequest(body), response);
      });
    } else sendJson(response, 200, JSON.stringify(path === "/v1/models" ? modelList() : namedModel(path.slice("/v1/models/".length))));
  }

  #readBody(request: IncomingMessage, response: ServerResponse, then: (body: string) => void): void {
    const type = request.headers["content-type"] ?? "";
    if (!/^application\/json\s*(;|$)/i.test(type)) {
      request.resume();
      throw new Refusal(`Unsupported media type: expected 'application/json', but got '${type}'.`, null, null, 415);
    }
    const pieces: Buffer[] = [];
    let size = 0;
    request.on("data", (piece: Buffer) => {
      size += piece.length;
      if (size <= bodyBytesMax) pieces.push(piece);
    });
    request.on("end", () => {
      refusing(response, () => {
        if (size > bodyBytesMax) throw new Refusal(`The request body is larger than ${bodyBytesMax} bytes.`, null, null, 413);
        then(Buffer.concat(pieces).toString());
      });
    });
  }

  #answer(request: DemoRequest, response: ServerResponse): void {
    const { clock, seed } = this.#settings;
    const { behaviour } = request.model;
    const failure = this.#failureOf(request.model);
    refuseAsTold(failure, behaviour, response);
    const answer = makeAnswer(request, this.#memory, seed);
    const created = Math.floor(clock.wallMs() / 1000);
    if (request.stream) {
      const after = failure === "none" ? Number.POSITIVE_INFINITY : behaviour.failsAfterTokens;
      const delivery = new Delivery(
        response,
        request,
        clock,
        new Seeded(`${seed}/${answer.id}`),
        failure === "cut" ? "cut" : "silence",
        after,
      );
      delivery.begin(writeChunks(answer, request, created));
    } else if (failure !== "silence") {
      const text = writeBody(answer, request, created);
      const waitMs = behaviour.firstTokenMs + behaviour.gapMs * Math.max(0, answer.usage.completionTokens - 1);
      later(clock, response, waitMs, () => {
        if (failure === "cut") sendHalf(response, text);
        else sendJson(response, 200, text);
      });
    }
  }

  #embed(request: DemoEmbeddingRequest, response: ServerResponse): void {
    const { clock, seed } = this.#settings;
    const { behaviour } = request.model;
    const failure = this.#failureOf(request.model);
    refuseAsTold(failure, behaviour, response);
    if (failure === "silence") return;
    const text = writeEmbeddings(request, seed);
    later(clock, response, behaviour.firstTokenMs, () => {
      if (failure === "cut") sendHalf(response, text);
      else sendJson(response, 200, text);
    });
  }

  /** What goes wrong with this request. A flaky model's luck is drawn anew each time, so that another attempt may pass. */
  #failureOf({ behaviour }: DemoModel): Certain {
    const { failure, failureRate } = behaviour;
    if (failure !== "flaky") return failure;
    const draw = this.#mood.next();
    return draw >= failureRate ? "none" : draw < failureRate / 2 ? "server_error" : "cut";
  }
}

/** How a request fails once luck is drawn. */
type Certain = "none" | "rate_limit" | "server_error" | "cut" | "silence";

/** Refuses where the model's name says that it refuses. */
function refuseAsTold(failure: Certain, { retryAfterMs }: Behaviour, response: ServerResponse): void {
  if (failure === "rate_limit") {
    for (const [name, value] of rateHeaders(retryAfterMs)) response.setHeader(name, value);
    const message = `Rate limit reached for the demo model, as its name says. Please try again in ${retryAfterMs}ms.`;
    throw new Refusal(message, null, "rate_limit_exceeded", 429, "requests");
  }
  if (failure === "server_error") {
    throw new Refusal("The demo provider failed, as this model does by its name.", null, null, 500, "server_error");
  }
}

/** Sends the chunks of one stream: at the model's pace, no faster than the caller reads, and until its failure. */
class Delivery {
  readonly #response: ServerResponse;
  readonly #request: DemoRequest;
  readonly #clock: DemoClock;
  readonly #random: Seeded;
  readonly #failure: "cut" | "silence";
  #tokensLeft: number;
  #chunks: Iterator<{ readonly json: string; readonly content: boolean }> = [][Symbol.iterator]();
  #takeBack: () => void = nothing;
  #begun = false;
  #gone = false;

  constructor(
    response: ServerResponse,
    request: DemoRequest,
    clock: DemoClock,
    random: Seeded,
    failure: "cut" | "silence",
    failsAfterTokens: number,
  ) {
    this.#response = response;
    this.#request = request;
    this.#clock = clock;
    this.#random = random;
    this.#failure = failure;
    this.#tokensLeft = failsAfterTokens;
  }

  begin(chunks: Iterator<{ readonly json: string; readonly content: boolean }>): void {
    this.#chunks = chunks;
    this.#response.on("close", () => {
      this.#gone = true;
      this.#takeBack();
    });
    this.#wait(this.#request.model.behaviour.firstTokenMs);
  }

  #wait(delayMs: number): void {
    if (delayMs <= 0) this.#go();
    else this.#takeBack = this.#clock.after(delayMs, () => this.#go());
  }

  /** Writes until the caller reads too slowly, the pace asks for a pause, or all is said. */
  #go(): void {
    const { gapMs, jitterMs } = this.#request.model.behaviour;
    let text = "";
    while (!this.#gone) {
      const next = this.#chunks.next();
      if (next.done === true) {
        this.#head();
        this.#response.end(`${text}data: [DONE]\n\n`);
        return;
      }
      if (next.value.content) {
        if (this.#tokensLeft <= 0) {
          this.#fail(text);
          return;
        }
        this.#tokensLeft -= 1;
      }
      text += `data: ${next.value.json}\n\n`;
      const pauseMs = next.value.content ? gapMs + jitterMs * this.#random.next() : 0;
      if (pauseMs <= 0 && text.length < writeBytes) continue;
      this.#head();
      const room = this.#response.write(text);
      text = "";
      if (room && pauseMs <= 0) continue;
      if (room) this.#wait(pauseMs);
      else this.#response.once("drain", () => this.#wait(pauseMs));
      return;
    }
  }

  #fail(text: string): void {
    // Silence from the first moment on: not even a status.
    if (this.#failure === "silence" && !this.#begun && text.length === 0) return;
    this.#head();
    if (this.#failure === "cut") this.#response.write(text, () => this.#response.destroy());
    else this.#response.write(text);
  }

  #head(): void {
    if (this.#begun) return;
    this.#begun = true;
    this.#response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache" });
  }
}

/** Runs `then` after a while, unless the caller leaves before. */
function later(clock: DemoClock, response: ServerResponse, delayMs: number, then: () => void): void {
  if (delayMs <= 0) then();
  else response.on("close", clock.after(delayMs, then));
}

/** Promises a whole body, sends half of it and closes the connection. */
function sendHalf(response: ServerResponse, text: string): void {
  const bytes = Buffer.from(text);
  response.writeHead(200, { "content-type": "application/json", "content-length": bytes.length });
  response.write(bytes.subarray(0, bytes.length >> 1), () => response.destroy());
}

function rateHeaders(retryAfterMs: number): [name: string, value: string][] {
  return [
    ["retry-after", String(Math.ceil(retryAfterMs / 1000))],
    ["retry-after-ms", String(retryAfterMs)],
    ["x-ratelimit-limit-requests", "60"],
    ["x-ratelimit-remaining-requests", "0"],
    ["x-ratelimit-reset-requests", `${retryAfterMs}ms`],
  ];
}

/** Does something, and turns a refusal into an answer. */
function refusing(response: ServerResponse, action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    sendJson(response, error.status, error.body());
  }
}

function sendJson(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
  response.end(body);
}

function modelList(): object {
  return { object: "list", data: modelNames.map(modelEntry) };
}

function namedModel(escaped: string): object {
  const name = decoded(escaped);
  if (typeof readModel(name) === "object") return modelEntry(name);
  throw new Refusal(`The model '${name}' does not exist`, "model", "model_not_found", 404);
}

function decoded(escaped: string): string {
  try {
    return decodeURIComponent(escaped);
  } catch {
    return escaped;
  }
}

function modelEntry(id: string): object {
  return { id, object: "model", created: 1_767_225_600, owned_by: "outrigger" }; // 2026-01-01, when none of them was made
}

function nothing(): void {
  // There is no timer to take back.
}
