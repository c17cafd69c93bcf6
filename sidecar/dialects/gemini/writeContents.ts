/**
 * Messages of the conversation as the contents of this API, which are stricter than the conversation:
 *
 * Instructions stand before all contents. Contents alternate between user and model, so neighbours of one side become one. What the tools
 * returned that one content of the model called stands directly behind it, in the order of the calls and under the names of their
 * functions, which the conversation knows by the ids of the calls alone. Thought signatures stand on the part that they belong to.
 */
import { type ChatRequest, type Media, type Message, type Part, Role } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { type JsonValue, RawJson } from "../../framing/json.ts";
import type { Report } from "../report.ts";
import { argumentsObject } from "../toolArguments.ts";
import type { ToolNames } from "../toolNames.ts";
import type { ExtraMembers } from "./extraMembers.ts";
import type { GeminiModel } from "./models.ts";
import { readSeal, skipSignature } from "./seal.ts";

/** All that a request says. */
export interface WrittenContents {
  /** Instructions, a part for each piece. */
  readonly system: readonly JsonValue[];
  readonly contents: readonly JsonValue[];
}

/** What the writer of contents must know beside the request. */
export interface ContentParts {
  readonly names: ToolNames;
  readonly traits: GeminiModel;
  /** Whether the endpoint takes ids of calls. */
  readonly callIds: boolean;
  /** The address under which the endpoint keeps uploaded files, or undefined where it keeps none. */
  readonly filesAddress: string | undefined;
  readonly extras: ExtraMembers;
  readonly report: Report;
}

/** Writes the messages of a request. */
export function writeContents(request: ChatRequest, parts: ContentParts): WrittenContents {
  return new ContentWriter(parts).write(request);
}

type Member = { [key: string]: JsonValue | undefined };

/** One side's content that may still grow. */
interface OpenContent {
  readonly role: "user" | "model";
  readonly parts: (Member | RawJson)[];
  /** What tools returned, with the place of the call that each answers. */
  readonly results: { readonly part: Member; readonly order: number }[];
}

class ContentWriter {
  readonly #names: ToolNames;
  readonly #traits: GeminiModel;
  readonly #callIds: boolean;
  readonly #filesAddress: string | undefined;
  readonly #extras: ExtraMembers;
  readonly #report: Report;
  readonly #calls = new Calls();
  readonly #system: (Member | RawJson)[] = [];
  readonly #contents: OpenContent[] = [];
  #saidForeign = false;

  constructor({ names, traits, callIds, filesAddress, extras, report }: ContentParts) {
    this.#names = names;
    this.#traits = traits;
    this.#callIds = callIds;
    this.#filesAddress = filesAddress;
    this.#extras = extras;
    this.#report = report;
  }

  write(request: ChatRequest): WrittenContents {
    for (const [at, message] of request.messages.entries()) this.#message(message, `messages[${at}]`);
    return { system: this.#system, contents: this.#finished() };
  }

  #finished(): JsonValue[] {
    const contents: JsonValue[] = [];
    if (this.#contents[0]?.role !== "user") {
      // Also where there is nothing but instructions.
      contents.push({ role: "user", parts: [{ text: " " }] });
      this.#report.changed("messages", "A blank message of a user was put first: this provider begins every conversation with one.");
    }
    for (const { role, parts, results } of this.#contents) {
      // Sorting keeps the order of those that answer no call.
      const first = results.sort((a, b) => a.order - b.order).map(({ part }) => part);
      if (this.#traits.resultsApart && first.length > 0 && parts.length > 0) {
        contents.push({ role, parts: first }, { role, parts });
      } else contents.push({ role, parts: [...first, ...parts] });
    }
    return contents;
  }

  #message(message: Message, path: string): void {
    this.#report.speaker(message, path);
    switch (message.role) {
      case Role.SYSTEM:
      case Role.DEVELOPER:
        this.#instructions(message, path);
        break;
      case Role.ASSISTANT:
        this.#model(message, path);
        break;
      default:
        message.parts.forEach((part, index) => {
          this.#userPart(part, `${path}.parts[${index}]`);
        });
    }
  }

  /** Instructions lose their place among the contents, which the caller hears of. */
  #instructions(message: Message, path: string): void {
    if (this.#contents.length > 0) {
      this.#report.changed(
        path,
        "Instructions in the middle of the conversation were moved to its beginning, where this provider takes them.",
      );
    }
    message.parts.forEach((part, index) => {
      const field = `${path}.parts[${index}]`;
      this.#cache(part, field);
      if (part.content.case === "text") this.#text(this.#system, part.content.value.text);
      else if (part.content.case === "extra") this.#extra(this.#system, part.content.value, field);
      else this.#report.unsupported(field, " among instructions");
    });
  }

  #model(message: Message, path: string): void {
    const parts: (Member | RawJson)[] = [];
    const signatures = new Map<string, string>();
    // Signatures that came before the words that they belong to: callers may put all thinking first.
    let textSignature: string | undefined;
    let lastText: Member | undefined;
    let ending: string | undefined;
    const calls: { readonly part: Member; readonly id: string }[] = [];
    if (this.#contents.at(-1)?.role !== "model") this.#calls.newBatch();
    message.parts.forEach((part, index) => {
      const field = `${path}.parts[${index}]`;
      const { content } = part;
      this.#cache(part, field);
      switch (content.case) {
        case "text":
        case "refusal":
          lastText = this.#text(parts, content.value.text) ?? lastText;
          break;
        case "reasoning": {
          const { text, signature, redacted, dialect } = content.value;
          const seal = dialect === "gemini" ? readSeal(signature !== "" ? signature : redacted) : undefined;
          if (dialect !== "gemini" || (seal === undefined && (signature !== "" || redacted !== ""))) {
            this.#foreign(field);
            break;
          }
          const thought: Member | undefined = text === "" ? undefined : { text, thought: true };
          if (thought !== undefined) parts.push(thought);
          if (seal?.part.kind === "call") signatures.set(seal.part.id, seal.signature);
          else if (seal?.part.kind === "text" && lastText !== undefined && lastText.thoughtSignature === undefined) {
            lastText.thoughtSignature = seal.signature;
          } else if (seal?.part.kind === "text") textSignature = seal.signature;
          else if (seal?.part.kind === "end" && parts.length > 0) parts.push({ text: "", thoughtSignature: seal.signature });
          else if (seal?.part.kind === "end") ending = seal.signature;
          else if (seal !== undefined && thought !== undefined) thought.thoughtSignature = seal.signature;
          break;
        }
        case "toolCall": {
          const { id, name, argumentsJson } = content.value;
          const sent = this.#names.sent.get(name) ?? name;
          const sentId = this.#calls.ofCall(id, sent);
          const call: Member = {
            functionCall: { id: this.#callIds ? sentId : undefined, name: sent, args: argumentsObject(argumentsJson) },
          };
          parts.push(call);
          calls.push({ part: call, id });
          break;
        }
        case "image":
        case "audio":
        case "file": {
          const media = this.#media(content.value, field);
          if (media !== undefined) parts.push(media);
          break;
        }
        case "extra":
          this.#extra(parts, content.value, field);
          break;
        default:
          this.#report.unsupported(field, " in an assistant's turn");
      }
    });
    for (const { part, id } of calls) {
      const signature = signatures.get(id);
      if (signature !== undefined) part.thoughtSignature = signature;
    }
    if (textSignature !== undefined && lastText !== undefined) lastText.thoughtSignature ??= textSignature;
    if (ending !== undefined) parts.push({ text: "", thoughtSignature: ending });
    if (parts.length === 0) return;
    const content = this.#content("model");
    // Of calls in one content the first carries the signature of all; one message may go on with what another began.
    const [first] = calls;
    const goesOn = content.parts.some((part) => !(part instanceof RawJson) && part.functionCall !== undefined);
    if (this.#traits.signedCalls && first !== undefined && !goesOn) first.part.thoughtSignature ??= skipSignature;
    content.parts.push(...parts);
  }

  #userPart(part: Part, field: string): void {
    const { content } = part;
    this.#cache(part, field);
    switch (content.case) {
      case "toolResult": {
        const { toolCallId, parts, isError } = content.value;
        const call = this.#calls.ofResult(toolCallId);
        if (call === undefined) {
          throw this.#report.invalid(
            `${field}.tool_result.tool_call_id`,
            "answers no call of this conversation, and this provider wants the name of its function",
          );
        }
        const user = this.#content("user");
        const { response, media } = this.#result(parts, isError, user, field);
        const result: Member = { id: this.#callIds ? call.id : undefined, name: call.name, response };
        if (media.length > 0) result.parts = media;
        user.results.push({ part: { functionResponse: result }, order: call.order });
        break;
      }
      case "text":
        // Of a turn that says nothing no content is left, which the API would refuse.
        if (content.value.text !== "") this.#text(this.#content("user").parts, content.value.text);
        break;
      case "image":
      case "audio":
      case "file": {
        const media = this.#media(content.value, field);
        if (media !== undefined) this.#content("user").parts.push(media);
        break;
      }
      case "extra": {
        const extras: RawJson[] = [];
        this.#extra(extras, content.value, field);
        if (extras.length > 0) this.#content("user").parts.push(...extras);
        break;
      }
      default:
        this.#report.unsupported(`${field}.${content.case ?? "content"}`);
    }
  }

  /** What a tool returned, as the object that the API wants: its words under a name that says whether they are of a failure. */
  #result(
    parts: readonly Part[],
    isError: boolean,
    user: OpenContent,
    field: string,
  ): { readonly response: JsonValue; readonly media: readonly JsonValue[] } {
    const texts: string[] = [];
    const media: JsonValue[] = [];
    parts.forEach((part, index) => {
      const inner = `${field}.tool_result.parts[${index}]`;
      const { content } = part;
      this.#cache(part, inner);
      if (content.case === "text") texts.push(content.value.text);
      else if (content.case === "image" || content.case === "audio" || content.case === "file") {
        const written = this.#media(content.value, inner);
        if (written === undefined) return;
        if (this.#traits.resultsApart) media.push(written);
        else {
          user.parts.push(written);
          this.#report.changed(inner, "The model takes texts alone as what a tool returned, so this was put beside it in the same turn.");
        }
      } else this.#report.unsupported(`${inner}.${content.case ?? "content"}`, " in what a tool returned");
    });
    const [only = ""] = texts;
    return { response: { [isError ? "error" : "output"]: texts.length > 1 ? texts : only }, media };
  }

  /** Empty text says nothing, and a part without anything is refused. */
  #text(parts: (Member | RawJson)[], text: string): Member | undefined {
    if (text === "") return undefined;
    const part: Member = { text };
    parts.push(part);
    return part;
  }

  #content(role: OpenContent["role"]): OpenContent {
    const last = this.#contents.at(-1);
    if (last?.role === role) return last;
    const content: OpenContent = { role, parts: [], results: [] };
    this.#contents.push(content);
    return content;
  }

  /** A picture, sound or document by value or by address: it is told by its media type and not by its kind. */
  #media(media: Media, field: string): Member | undefined {
    if (media.detail !== "" && media.detail !== "auto") {
      this.#report.dropped(`${field}.image.detail`, "This provider decides for itself how closely to look at a picture.");
    }
    const { source, mediaType } = media;
    switch (source.case) {
      case "data": {
        if (mediaType === "") throw this.#report.invalid(field, "bytes need a media type");
        const { buffer, byteOffset, byteLength } = source.value;
        return { inlineData: { mimeType: mediaType, data: Buffer.from(buffer, byteOffset, byteLength).toString("base64") } };
      }
      case "url": {
        const inline = /^data:([^;,]*)(?:;[^;,]*)*;base64,/.exec(source.value);
        if (inline !== null) {
          return { inlineData: { mimeType: inline[1] || mediaType || "text/plain", data: source.value.slice(inline[0].length) } };
        }
        if (source.value.startsWith("data:")) throw this.#report.invalid(field, "a data address must be base64");
        if (!this.#traits.fetches && !isOwnAddress(source.value)) {
          this.#report.unsupported(field, " by address, since it fetches nothing from there");
          return undefined;
        }
        return { fileData: { mimeType: mediaType || mediaTypeOf(source.value), fileUri: source.value } };
      }
      case "fileId": {
        const { value } = source;
        if (isOwnAddress(value)) return { fileData: { mimeType: mediaType || mediaTypeOf(value), fileUri: value } };
        if (this.#filesAddress === undefined || !/^files\/[a-z0-9-]+$/.test(value)) {
          this.#report.unsupported(field, " by the name of a file that this provider does not keep");
          return undefined;
        }
        return { fileData: { mimeType: mediaType || undefined, fileUri: `${this.#filesAddress}/${value}` } };
      }
      default:
        throw this.#report.invalid(field, "a picture, sound or document needs a source");
    }
  }

  /** A part that only this dialect knows, such as code that the provider ran. */
  #extra(parts: (Member | RawJson)[] | RawJson[], extra: { dialect: string; json: string }, field: string): void {
    if (extra.dialect === "gemini") parts.push(this.#extras.raw(extra.json, field));
    else this.#report.unsupported(field);
  }

  /** Thinking that others sealed, or nobody, would be refused or misunderstood; the model goes on without it. */
  #foreign(field: string): void {
    if (this.#saidForeign) return;
    this.#saidForeign = true;
    this.#report.dropped(field, "Thinking that this provider has not sealed was not sent back to it.");
  }

  #cache({ cache }: Part, field: string): void {
    if (cache !== undefined) this.#report.dropped(`${field}.cache`, "This provider decides for itself what it keeps in its prompt cache.");
  }
}

/**
 * Calls by the ids that the conversation knows them by. Some models begin again from the same id in every turn, and some give none, so an
 * id means the latest call that has it and was not answered yet. Ids are sent as they are, but never twice.
 */
class Calls {
  readonly #sent = new Set<string>();
  /** The calls of the model's last turn. */
  #batch = new Map<string, { readonly id: string; readonly name: string; readonly order: number; answered: boolean }[]>();
  /** The latest call of each id in the turns before. */
  readonly #earlier = new Map<string, { readonly id: string; readonly name: string }>();
  #order = 0;

  /** A new turn of the model begins. */
  newBatch(): void {
    for (const [id, calls] of this.#batch) {
      const last = calls.at(-1);
      if (last !== undefined) this.#earlier.set(id, last);
    }
    this.#batch = new Map();
    this.#order = 0;
  }

  /** A call: returns the id to send. */
  ofCall(id: string, name: string): string {
    const plain = id === "" ? "call" : id;
    let free = plain;
    for (let n = 2; this.#sent.has(free); n++) free = `${plain}_${n}`;
    this.#sent.add(free);
    const call = { id: free, name, order: this.#order++, answered: false };
    const calls = this.#batch.get(id);
    if (calls === undefined) this.#batch.set(id, [call]);
    else calls.push(call);
    return free;
  }

  /** The call that a result answers, with its place in the turn that made it; undefined if there is none. */
  ofResult(id: string): { readonly id: string; readonly name: string; readonly order: number } | undefined {
    const calls = this.#batch.get(id);
    const call = calls?.find(({ answered }) => !answered) ?? calls?.at(-1);
    if (call !== undefined) {
      call.answered = true;
      return call;
    }
    const earlier = this.#earlier.get(id);
    return earlier === undefined ? undefined : { ...earlier, order: Number.MAX_SAFE_INTEGER };
  }
}

/** Whether the provider itself keeps what stands at an address. */
function isOwnAddress(address: string): boolean {
  return (
    address.startsWith("gs://") ||
    address.startsWith("https://generativelanguage.googleapis.com/") ||
    /^https:\/\/(?:www\.)?(?:youtube\.com|youtu\.be)\//.test(address)
  );
}

/** The media type that an address names by its ending, since the API wants one; undefined where it names none. */
function mediaTypeOf(address: string): string | undefined {
  const ending = /\.([a-z0-9]{2,4})(?:[?#].*)?$/i.exec(address)?.[1]?.toLowerCase();
  return ending === undefined ? undefined : endings.get(ending);
}

const endings: ReadonlyMap<string, string> = new Map([
  ["png", "image/png"],
  ["jpg", "image/jpeg"],
  ["jpeg", "image/jpeg"],
  ["webp", "image/webp"],
  ["heic", "image/heic"],
  ["heif", "image/heif"],
  ["gif", "image/gif"],
  ["pdf", "application/pdf"],
  ["txt", "text/plain"],
  ["mp3", "audio/mp3"],
  ["wav", "audio/wav"],
  ["flac", "audio/flac"],
  ["ogg", "audio/ogg"],
  ["mp4", "video/mp4"],
  ["webm", "video/webm"],
  ["mov", "video/quicktime"],
]);
