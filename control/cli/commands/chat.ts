/** `outrigger chat`: asks a running sidecar and shows the answer as it arrives. */
import { createInterface } from "node:readline/promises";
import { toJson } from "@bufbuild/protobuf";
import { Collector } from "../../../proto/chat.ts";
import { type ChatClient, type MessageInit, system, user } from "../../../proto/client.ts";
import { FinishReason, type Money } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { type ChatEvent, type ChatResponse, ChatResponseSchema } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { callFailure, openCaller } from "../caller.ts";
import type { Terminal } from "../terminal.ts";
import { Failure, type World } from "../world.ts";

/** What the command line says. */
export interface ChatOptions {
  readonly address: string;
  readonly key: string | undefined;
  readonly model: string;
  readonly system: string | undefined;
  readonly maxTokens: number | undefined;
  /** Empty to read standard input, or to converse if that is a terminal. */
  readonly prompt: string;
}

/** Asks once, or converses until the person has enough. */
export async function chat(world: World, terminal: Terminal, options: ChatOptions): Promise<number> {
  const session = new Session(world, terminal, options);
  if (options.prompt === "" && world.stdin.isTTY === true) return converse(world, terminal, session);
  const prompt = options.prompt === "" || options.prompt === "-" ? await readAll(world) : options.prompt;
  if (prompt.trim() === "") {
    throw new Failure("There is no prompt: expected one as an argument or on standard input.", 'For example: outrigger chat "hello"', 2);
  }
  await session.ask(prompt, new AbortController());
  return 0;
}

/** One answer and how long it took. */
interface Answered {
  readonly response: ChatResponse;
  /** From the question to the first piece of the answer, or undefined if there was none. */
  readonly firstMs: number | undefined;
  readonly totalMs: number;
}

/** A conversation with one model. */
class Session {
  model: string;
  readonly #world: World;
  readonly #terminal: Terminal;
  readonly #options: ChatOptions;
  readonly #client: ChatClient;
  #history: MessageInit[] = [];

  constructor(world: World, terminal: Terminal, options: ChatOptions) {
    this.model = options.model;
    this.#world = world;
    this.#terminal = terminal;
    this.#options = options;
    this.#client = openCaller(options);
    this.reset();
  }

  /** Forgets what was said. */
  reset(): void {
    const instructions = this.#options.system;
    this.#history = instructions === undefined ? [] : [system(instructions)];
  }

  /** Asks and shows. A question that fails leaves the conversation as it was. */
  async ask(prompt: string, stop: AbortController): Promise<void> {
    const messages = [...this.#history, user(prompt)];
    const answered = await this.#stream(messages, stop.signal);
    const said = answered.response.choices[0]?.message;
    if (this.#terminal.format === "table") this.#footer(answered);
    else await this.#terminal.result(machineResult(answered), "");
    // Thinking goes back as it came: some providers refuse a conversation without it.
    if (said !== undefined && said.parts.length > 0) this.#history = [...messages, said];
  }

  async #stream(messages: MessageInit[], signal: AbortSignal): Promise<Answered> {
    const { clock } = this.#world;
    const { maxTokens } = this.#options;
    const limit = maxTokens === undefined ? {} : { maxOutputTokens: BigInt(maxTokens) };
    const collector = new Collector();
    const view = new View(this.#terminal);
    const startedMs = clock.monotonicMs();
    let firstMs: number | undefined;
    try {
      for await (const events of this.#client.streamBatches({ model: this.model, messages, ...limit }, { signal })) {
        if (events.some(hasContent)) firstMs ??= clock.monotonicMs() - startedMs;
        collector.add(events);
        if (this.#terminal.format === "table") for (const event of events) view.show(event);
      }
    } catch (error) {
      view.end();
      throw await callFailure(error, this.#options.address);
    }
    view.end();
    return { response: collector.response, firstMs, totalMs: clock.monotonicMs() - startedMs };
  }

  #footer({ response, firstMs, totalMs }: Answered): void {
    const { noteStyle, note } = this.#terminal;
    for (const warning of response.warnings) note(noteStyle("yellow", `warning: ${warning.message}`));
    const choice = response.choices[0];
    for (const part of choice?.message?.parts ?? []) {
      if (part.content.case === "toolCall") note(noteStyle("cyan", `calls ${part.content.value.name} ${part.content.value.argumentsJson}`));
    }
    const { usage } = response;
    const thought = usage?.reasoningTokens === undefined || usage.reasoningTokens === 0n ? "" : ` (${usage.reasoningTokens} thinking)`;
    const facts = [
      `${response.model} by ${response.provider}`,
      usage === undefined ? "usage unknown" : `${usage.inputTokens ?? "?"} in, ${usage.outputTokens ?? "?"} out${thought}`,
      firstMs === undefined ? undefined : `first token ${shownMs(firstMs)}`,
      `total ${shownMs(totalMs)}`,
      response.cost === undefined ? undefined : shownMoney(response.cost),
      choice === undefined || choice.finishReason === FinishReason.STOP ? undefined : `ended by ${finishWord(choice.finishReason)}`,
    ];
    note(noteStyle("dim", facts.filter((fact) => fact !== undefined).join(" · ")));
  }
}

/** Shows the pieces of an answer: what is said among the results, thinking dimmed among the remarks. */
class View {
  readonly #terminal: Terminal;
  #line: "none" | "thinking" | "text" = "none";

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  show({ event }: ChatEvent): void {
    if (event.case === "reasoning" && event.value.text !== "") {
      if (this.#line === "none") this.#terminal.noteRaw(this.#terminal.noteStyle("dim", "thinking: "));
      this.#line = "thinking";
      this.#terminal.noteRaw(this.#terminal.noteStyle("dim", event.value.text));
    } else if ((event.case === "text" || event.case === "refusal") && event.value.choice === 0) {
      if (this.#line === "thinking") this.#terminal.note("");
      this.#line = "text";
      this.#terminal.out(event.value.text);
    }
  }

  end(): void {
    if (this.#line === "text") this.#terminal.out("\n");
    else if (this.#line === "thinking") this.#terminal.note("");
    this.#line = "none";
  }
}

async function converse(world: World, terminal: Terminal, session: Session): Promise<number> {
  const lines = createInterface({ input: world.stdin, output: world.stderr, terminal: true });
  terminal.note(terminal.noteStyle("dim", `You are talking to ${session.model}. /model NAME changes that, /reset forgets, /exit ends.`));
  let running: AbortController | undefined;
  let ended = false;
  lines.on("SIGINT", () => {
    if (running === undefined) lines.close();
    else running.abort();
  });
  lines.on("close", () => {
    ended = true;
    running?.abort();
  });
  while (!ended) {
    const line = await question(lines, terminal.noteStyle("bold", "> "));
    if (line === undefined || line === "/exit" || line === "/quit") break;
    if (line === "/reset") session.reset();
    else if (line.startsWith("/model ")) session.model = line.slice("/model ".length).trim();
    else if (line.startsWith("/")) terminal.note("There is /model NAME, /reset and /exit.");
    else if (line !== "") {
      running = new AbortController();
      try {
        await session.ask(line, running);
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        terminal.note(terminal.noteStyle("red", error.message));
        if (error.next !== undefined) terminal.note(error.next);
      }
      running = undefined;
    }
  }
  lines.close();
  return 0;
}

/** The next line, or undefined if there will be none. */
function question(lines: ReturnType<typeof createInterface>, prompt: string): Promise<string | undefined> {
  return new Promise((done) => {
    const closed = () => done(undefined);
    lines.once("close", closed);
    lines.question(prompt).then(
      (line) => {
        lines.off("close", closed);
        done(line.trim());
      },
      () => done(undefined),
    );
  });
}

async function readAll(world: World): Promise<string> {
  const pieces: string[] = [];
  world.stdin.setEncoding("utf8");
  for await (const piece of world.stdin) pieces.push(String(piece));
  return pieces.join("");
}

function machineResult({ response, firstMs, totalMs }: Answered): object {
  return {
    ...(toJson(ChatResponseSchema, response) as object),
    firstMs: firstMs === undefined ? null : rounded(firstMs),
    totalMs: rounded(totalMs),
  };
}

function hasContent({ event }: ChatEvent): boolean {
  return event.case === "text" || event.case === "reasoning" || event.case === "refusal" || event.case === "toolCall";
}

function finishWord(reason: FinishReason): string {
  switch (reason) {
    case FinishReason.LENGTH:
      return "the limit on tokens";
    case FinishReason.TOOL_CALLS:
      return "tool calls";
    case FinishReason.CONTENT_FILTER:
      return "a content filter";
    default:
      return "nothing known";
  }
}

function shownMoney({ currency, micros }: Money): string {
  // Six digits after the point are all that there are: money is in millionths.
  return `${currency} ${(Number(micros) / 1e6).toFixed(6)}`;
}

function shownMs(ms: number): string {
  return ms < 1_000 ? `${rounded(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`;
}

function rounded(ms: number): number {
  return ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms);
}
