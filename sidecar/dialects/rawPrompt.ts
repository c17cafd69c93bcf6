/**
 * A conversation as one text, for servers that complete text and know no roles.
 *
 * Models tell who speaks by control words. A caller who writes such a word into a message could speak for the system or for the model, so
 * every control word inside a message is broken up by a blank: nothing is taken away, since what is left could join to a new one.
 *
 * Formats: https://github.com/meta-llama/llama-models (`llama2`, `llama3`); ChatML as many other models have it; `plain` is no format at
 * all, for models that were trained on none.
 */
import { type ChatRequest, type Message, type Part, Role } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { AnswerInput, ClientHalf, RequestInput } from "./dialect.ts";
import { Report } from "./report.ts";

/** How a model is told who speaks. */
export type PromptFormat = "llama2" | "llama3" | "chatml" | "plain";

/** How a prompt is written. */
export interface PromptOptions {
  readonly format: PromptFormat;
  /** Whether the word that begins a text stands in the prompt; not where the server adds it, since twice is not the same. */
  readonly beginning: boolean;
}

/**
 * A client half that is given texts to go on with only where its model does that. Any other model is asked by the text as a user's turn,
 * which is told: it answers the text and does not go on with it.
 */
export function withTurns(client: ClientHalf): ClientHalf {
  const isTurn = ({ request, model }: { readonly request: ChatRequest; readonly model: string }): boolean =>
    request.rawPrompt === true && client.completes?.(model) !== true;
  return Object.freeze({
    ...client,
    readAnswer: (input: AnswerInput) => client.readAnswer(isTurn(input) ? { ...input, request: asTurn(input.request) } : input),
    writeRequest(input: RequestInput) {
      if (!isTurn(input)) return client.writeRequest(input);
      const report = new Report(input.model, input.dropUnsupported);
      if (input.request.messages.length > 1) throw report.refusal("messages", " with several texts: it answers one conversation at a time");
      report.changed(
        "raw_prompt",
        `The text was sent as a user's turn: the model ${input.model} answers texts and does not go on with them.`,
      );
      const written = client.writeRequest({ ...input, request: asTurn(input.request), native: undefined });
      return { ...written, warnings: [...report.warnings, ...written.warnings] };
    },
  } satisfies ClientHalf);
}

function asTurn(request: ChatRequest): ChatRequest {
  const { rawPrompt: _, ...turn } = request;
  return turn;
}

/** The prompt of a request: its one text as it stands where that is asked for, otherwise its conversation. */
export function promptOf(request: ChatRequest, options: PromptOptions, report: Report): string {
  const [only, ...others] = request.messages;
  if (request.rawPrompt !== true || only === undefined) return writePrompt(request.messages, options, report);
  if (others.length > 0) throw report.refusal("messages", " with several texts: the API takes one at a time");
  return only.parts.map((part, index) => textOf(part, `messages[0].parts[${index}]`, report)).join("");
}

/** Writes the prompt. Parts that are no text are refused or reported; an answer that the application began is left open at the end. */
export function writePrompt(messages: readonly Message[], options: PromptOptions, report: Report): string {
  const read = messages.map((message, index) => readTurn(message, `messages[${index}]`, options.format, report));
  // A turn of nothing says nothing, and would show the model a speaker who did not speak.
  const turns = read.filter(({ text }) => text !== "");
  if (turns.every(({ text }) => text.trim() === "")) throw report.invalid("messages", "this model needs a message that is not empty");
  switch (options.format) {
    case "llama2":
      return llama2(turns, options.beginning);
    case "llama3":
      return llama3(turns, options.beginning);
    case "chatml":
      return chatMl(turns);
    case "plain":
      return plain(turns, report);
  }
}

interface Turn {
  readonly speaker: "system" | "user" | "assistant";
  readonly text: string;
}

function readTurn(message: Message, path: string, format: PromptFormat, report: Report): Turn {
  report.speaker(message, path);
  let text = "";
  let thought = false;
  message.parts.forEach((part, index) => {
    const field = `${path}.parts[${index}]`;
    if (part.cache !== undefined) report.dropped(`${field}.cache`, "This provider has no cache markers.");
    if (part.content.case === "reasoning") thought = true;
    else text += textOf(part, field, report);
  });
  if (thought) report.dropped(`${path}.reasoning`, "Thinking is given back only to the dialect that made it.");
  const harmless = withoutControlWords(text, format);
  if (harmless !== text) {
    report.changed(path, "Words by which the model is told who speaks were broken up by a blank, so that they are read as text.");
  }
  return { speaker: speakerOf(message.role, path, report), text: harmless };
}

function textOf({ content }: Part, field: string, report: Report): string {
  if (content.case === "text" || content.case === "refusal") return content.value.text;
  report.unsupported(field, ", a part that is no text");
  return "";
}

function speakerOf(role: Role, path: string, report: Report): Turn["speaker"] {
  switch (role) {
    case Role.SYSTEM:
    case Role.DEVELOPER:
      return "system";
    case Role.ASSISTANT:
      return "assistant";
    case Role.USER:
    case Role.TOOL:
      return "user";
    default:
      throw report.invalid(`${path}.role`, "the role is not known");
  }
}

/** Breaks every control word of the format after its first character. */
function withoutControlWords(text: string, format: PromptFormat): string {
  switch (format) {
    case "llama2":
      return text.replace(/\[(?=\/?INST\])|<(?=<\/?SYS>>|\/?s>|unk>)/gi, "$& ");
    case "llama3":
    case "chatml":
      return text.replace(/<(?=\|\w+\|>)/g, "$& ");
    case "plain":
      return text;
  }
}

/**
 * Instructions stand before the first question, and questions and answers take turns, so instructions are joined there and turns of one
 * speaker in a row are joined too.
 */
function llama2(turns: readonly Turn[], beginning: boolean): string {
  const instructions = turns.filter(({ speaker }) => speaker === "system").map(({ text }) => text);
  const system = instructions.length === 0 ? "" : `<<SYS>>\n${instructions.join("\n\n")}\n<</SYS>>\n\n`;
  const spoken = inTurns(turns.filter(({ speaker }) => speaker !== "system"));
  // A question must come first, even if there is none.
  if (spoken[0]?.speaker !== "user") spoken.unshift({ speaker: "user", text: "" });
  let prompt = "";
  spoken.forEach(({ speaker, text }, index) => {
    if (speaker === "assistant") {
      prompt += index === spoken.length - 1 ? ` ${text}` : ` ${text} </s>`;
      return;
    }
    prompt += `${index === 0 && !beginning ? "" : "<s>"}[INST] ${index === 0 ? system : ""}${text} [/INST]`;
  });
  return prompt;
}

function llama3(turns: readonly Turn[], beginning: boolean): string {
  const opened = turns.map(({ speaker, text }) => `<|start_header_id|>${speaker}<|end_header_id|>\n\n${text}`);
  if (turns.at(-1)?.speaker !== "assistant") opened.push("<|start_header_id|>assistant<|end_header_id|>\n\n");
  return (beginning ? "<|begin_of_text|>" : "") + opened.join("<|eot_id|>");
}

function chatMl(turns: readonly Turn[]): string {
  const opened = turns.map(({ speaker, text }) => `<|im_start|>${speaker}\n${text}`);
  if (turns.at(-1)?.speaker !== "assistant") opened.push("<|im_start|>assistant\n");
  return opened.join("<|im_end|>\n");
}

/** Nothing can say who speaks, so only one who asks may speak. */
function plain(turns: readonly Turn[], report: Report): string {
  if (turns.some(({ speaker }) => speaker === "assistant"))
    report.unsupported("messages", " with earlier answers, for want of a prompt format");
  return turns
    .filter(({ speaker }) => speaker !== "assistant")
    .map(({ text }) => text)
    .join("\n\n");
}

function inTurns(turns: readonly Turn[]): Turn[] {
  const joined: Turn[] = [];
  for (const turn of turns) {
    const last = joined.at(-1);
    if (last?.speaker === turn.speaker) joined[joined.length - 1] = { ...last, text: `${last.text}\n\n${turn.text}` };
    else joined.push(turn);
  }
  return joined;
}
