/**
 * Gives sealed thinking back for callers who cannot carry it.
 *
 * Some providers seal what their models think and want it back with the next turn: a tool call without the thinking that led to it is
 * answered worse, or refused. Most callers know nothing of seals and lose them. So the sealed thinking of every answer is kept, and when
 * the turn comes back without it, it is put back in its place, if the target asked now is the model that made it. Otherwise nothing sealed
 * goes along, neither what was kept nor what the caller carried, and the caller is told: what one model sealed another one refuses.
 *
 * What is visible is never changed. A caller who speaks the target's own language keeps its thinking itself and is left alone.
 */
import type { Batch } from "../../proto/chat.ts";
import { type ChatRequest, type Message, type Part, type Reasoning, Role } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ReasoningDelta, Warning } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { type CallTarget, type ChatCall, type Filter, isChat } from "../call.ts";
import type { SealedBlock, SealedTurn, SealedTurns, TurnKeys } from "../sealedTurns.ts";

/** Makes the filter. One per sidecar, not one per policy. `sha256` gives the hash of a text as text. */
export function recall(kept: SealedTurns, sha256: (text: string) => string): Filter {
  return function recall(call, next) {
    const { target, consumer } = call;
    if (target === undefined || consumer === undefined) throw new Error("recall comes after identify and route");
    // Nobody thinks about vectors.
    if (!isChat(call)) return next(call);
    const holder = `${consumer.namespace}/${consumer.name}`;
    const { turns, talks } = kept.holdingsOf(holder);
    const sent = turns > 0 ? new Recollection(call, target, holder, kept, talks > 0, sha256).fitted() : withoutForeignSeals(call, target);
    if (target.seals === undefined || call.validateOnly) return next(sent);
    const { request } = call;
    const listener = new Listener(target, (turn, calls, textLength) => {
      const keys = keysOf(new Places(request, sha256), request.messages.length, namesOf(calls), textLength, false);
      kept.keep(holder, keys, turn);
    });
    return next({ ...sent, watch: (batch) => listener.hear(batch) });
  };
}

/** Conversations up to this many units of visible text have places: to hash more would hold up all other calls for over two milliseconds. */
const placeTextMax = 1024 * 1024;

/** What becomes of one request, by what is known of its turns. */
class Recollection {
  readonly #call: ChatCall;
  readonly #target: CallTarget;
  readonly #holder: string;
  readonly #kept: SealedTurns;
  readonly #talks: boolean;
  readonly #places: Places;
  /** Whether the caller speaks the target's own language, and so keeps thinking itself. */
  readonly #own: boolean;
  readonly #wanted: boolean;

  constructor(call: ChatCall, target: CallTarget, holder: string, kept: SealedTurns, talks: boolean, sha256: (text: string) => string) {
    this.#call = call;
    this.#target = target;
    this.#holder = holder;
    this.#kept = kept;
    this.#talks = talks;
    this.#places = new Places(call.request, sha256);
    this.#own = target.seals !== undefined && call.native?.dialect === target.seals.dialect;
    this.#wanted = target.seals?.always === true || asksToThink(call.request);
  }

  /** The call with its thinking put back, or with what must not be sent taken off. */
  fitted(): ChatCall {
    const { request } = this.#call;
    const changed = new Map<number, Fitted>();
    const unused: number[] = [];
    let recalled = 0;
    const names = request.messages.map((message) => (message.role === Role.ASSISTANT ? namesOf(callsOf(message)) : undefined));
    const repeated = repeats(names);
    request.messages.forEach((message, at) => {
      if (message.role !== Role.ASSISTANT) return;
      const calls = names[at];
      if (calls === undefined && !this.#talks) return;
      const again = calls !== undefined && repeated.has(calls);
      const turn = this.#kept.find(this.#holder, keysOf(this.#places, at, calls, textLengthOf(message), again));
      if (turn === undefined) return;
      if (this.#opens(turn)) {
        if (this.#own || !this.#wanted) return;
        changed.set(at, withThinking(message, turn));
        recalled += 1;
      } else if (carries(message, turn)) changed.set(at, withoutSeals(message, turn.dialect));
      else if (!message.parts.some(isSealed)) unused.push(at);
    });
    if (recalled > 0 || unused.length > 0) {
      this.#call.notes.decisions?.push({
        filter: "recall",
        outcome: `gave back the sealed thinking of ${recalled} turns; another model made that of ${unused.length}`,
        facts: { recalled: String(recalled), unused: String(unused.length) },
      });
    }
    const call = withoutForeignSeals(this.#call, this.#target);
    if (changed.size === 0 && unused.length === 0) return call;
    return {
      ...call,
      ...(changed.size === 0 ? {} : { request: withMessages(request, changed), native: undefined }),
      warnings: unused.length === 0 ? call.warnings : [...call.warnings, notGivenBack(unused)],
    };
  }

  /** Whether the target is the model that sealed a turn. */
  #opens(turn: SealedTurn): boolean {
    const { seals, model, provider } = this.#target;
    return seals !== undefined && seals.dialect === turn.dialect && model === turn.model && (seals.portable || provider === turn.provider);
  }
}

/** Whether a request asks the model to think. */
function asksToThink({ reasoning }: ChatRequest): boolean {
  if (reasoning === undefined || reasoning.thinking === false) return false;
  return reasoning.amount.case !== "effort" || reasoning.amount.value !== "none";
}

/** A message as it is sent, and where its parts went: by their old places the new ones, or -1 for what was left out. */
interface Fitted {
  readonly message: Message;
  readonly moved: readonly number[];
}

/** A message with the blocks of its turn, each in its place; whatever thinking it brought is in them already. */
function withThinking(message: Message, { blocks }: SealedTurn): Fitted {
  const parts: Part[] = [];
  const moved: number[] = [];
  let at = 0;
  let text = 0;
  let calls = 0;
  const putBlocks = (): void => {
    for (let block = blocks[at]; block !== undefined && block.callsBefore <= calls && block.textBefore <= text; block = blocks[at]) {
      parts.push(reasoningPart(block));
      at += 1;
    }
  };
  for (const part of message.parts) {
    const { content } = part;
    if (content.case === "reasoning") {
      moved.push(-1);
      continue;
    }
    putBlocks();
    moved.push(parts.length);
    if (content.case === "toolCall") calls += 1;
    const words = wordsOf(part);
    const end = text + words.length;
    let rest = words;
    // Callers who know no thinking join the texts around it. A marker belongs to the whole of a text.
    for (let block = blocks[at]; content.case === "text" && part.cache === undefined && block !== undefined; block = blocks[at]) {
      if (block.callsBefore > calls || block.textBefore >= end) break;
      const piece = rest.slice(0, block.textBefore - text);
      rest = rest.slice(piece.length);
      parts.push(textPart(piece), reasoningPart(block));
      text += piece.length;
      at += 1;
    }
    parts.push(rest.length === words.length ? part : textPart(rest));
    text = end;
  }
  for (const block of blocks.slice(at)) parts.push(reasoningPart(block));
  return { message: { ...message, parts }, moved };
}

/** A message whose seals of one dialect are taken off: the target's own dialect leaves out what is not sealed, and says so. */
function withoutSeals(message: Message, dialect: string): Fitted {
  const parts = message.parts.map((part): Part => {
    const { content } = part;
    if (content.case !== "reasoning" || content.value.dialect !== dialect) return part;
    return { ...part, content: { case: "reasoning", value: { ...content.value, signature: "", redacted: "", dialect: "" } } };
  });
  return { message: { ...message, parts }, moved: parts.map((_, index) => index) };
}

/**
 * A call whose own text does not go out as it came if it holds seals of others. A caller may have been given them in its own language,
 * from a target that speaks another one, and this target would refuse them; its dialect leaves them out.
 */
function withoutForeignSeals(call: ChatCall, { seals }: CallTarget): ChatCall {
  if (seals === undefined || call.native === undefined || call.native.dialect !== seals.dialect) return call;
  for (const { role, parts } of call.request.messages) {
    if (role !== Role.ASSISTANT) continue;
    for (const { content } of parts) {
      if (content.case === "reasoning" && content.value.dialect !== seals.dialect) return { ...call, native: undefined };
    }
  }
  return call;
}

/** Whether a message brings one of a turn's own seals: what came from elsewhere is not judged by what was kept. */
function carries(message: Message, { blocks }: SealedTurn): boolean {
  return message.parts.some(({ content }) => {
    if (content.case !== "reasoning") return false;
    const { signature, redacted } = content.value;
    if (signature === "" && redacted === "") return false;
    return blocks.some((block) => block.signature === signature && block.redacted === redacted);
  });
}

function isSealed({ content }: Part): boolean {
  return content.case === "reasoning" && (content.value.signature !== "" || content.value.redacted !== "");
}

/** The request with some messages in the place of others. What only one dialect knows of their parts follows them. */
function withMessages(request: ChatRequest, changed: ReadonlyMap<number, Fitted>): ChatRequest {
  const messages = request.messages.map((message, at) => changed.get(at)?.message ?? message);
  const extras = request.extras.map((extra) => {
    const place = /^messages\[(\d+)\]\.parts\[(\d+)\]/.exec(extra.path);
    if (place === null) return extra;
    const to = changed.get(Number(place[1]))?.moved[Number(place[2])];
    if (to === undefined || to === -1) return extra;
    return { ...extra, path: `messages[${place[1]}].parts[${to}]${extra.path.slice(place[0].length)}` };
  });
  return { ...request, messages, extras };
}

function notGivenBack(unused: readonly number[]): Warning {
  return {
    $typeName: "outrigger.chat.v1.Warning",
    code: "PARAMETER_DROPPED",
    field: `messages[${unused[0] ?? 0}].reasoning`,
    message: `Another model did the thinking behind ${unused.length === 1 ? "one turn" : `${unused.length} turns`} of this conversation, so it was not given to this one.`,
  };
}

function reasoningPart({ text, signature, redacted, dialect }: SealedBlock): Part {
  const value: Reasoning = { $typeName: "outrigger.chat.v1.Reasoning", text, signature, redacted, dialect };
  return { $typeName: "outrigger.chat.v1.Part", content: { case: "reasoning", value } };
}

function textPart(text: string): Part {
  return { $typeName: "outrigger.chat.v1.Part", content: { case: "text", value: { $typeName: "outrigger.chat.v1.Text", text } } };
}

/** A tool call, as far as turns are told by it. Arguments are not: clients write them anew. */
interface CallName {
  readonly id: string;
  readonly name: string;
}

function callsOf({ parts }: Message): readonly CallName[] {
  const calls: CallName[] = [];
  for (const { content } of parts) if (content.case === "toolCall") calls.push(content.value);
  return calls;
}

/** What a part says to the reader, or nothing. */
function wordsOf({ content }: Part): string {
  return content.case === "text" || content.case === "refusal" ? content.value.text : "";
}

function textLengthOf({ parts }: Message): number {
  return parts.reduce((length, part) => length + wordsOf(part).length, 0);
}

/** The calls of a turn as a text, or undefined if it has none. */
function namesOf(calls: readonly CallName[]): string | undefined {
  return calls.length === 0 ? undefined : JSON.stringify(calls.map(({ id, name }) => [id, name]));
}

/** What is in a list more than once. */
function repeats(names: readonly (string | undefined)[]): ReadonlySet<string> {
  const seen = new Set<string>();
  const again = new Set<string>();
  for (const name of names) {
    if (name === undefined) continue;
    if (seen.has(name)) again.add(name);
    seen.add(name);
  }
  return again;
}

/** By what the turn at `at` is found. How long its text is stands for its text, which passed by in pieces when the turn was made. */
function keysOf(places: Places, at: number, calls: string | undefined, textLength: number, repeated: boolean): TurnKeys {
  return {
    calls,
    repeated,
    place() {
      const before = places.before(at);
      return before === undefined ? undefined : `${before} ${textLength} ${calls ?? ""}`;
    },
  };
}

/** Where in a conversation a message stands: a hash of all that is visible before it. Worked out as far as it is asked for. */
class Places {
  readonly #request: ChatRequest;
  readonly #sha256: (text: string) => string;
  /** The place of each message that was asked for, and of those before. */
  readonly #known: string[] = [""];
  #unitsLeft = placeTextMax;

  constructor(request: ChatRequest, sha256: (text: string) => string) {
    this.#request = request;
    this.#sha256 = sha256;
  }

  /** The place of the message at `at`, which may be the one that is still to come; undefined beyond what is hashed. */
  before(at: number): string | undefined {
    for (let known = this.#known.length - 1; known < at; known += 1) {
      const message = this.#request.messages[known];
      const last = this.#known[known];
      if (message === undefined || last === undefined) return undefined;
      this.#unitsLeft -= unitsOf(message.parts);
      if (this.#unitsLeft < 0) return undefined;
      const seen = visible(message);
      this.#known.push(seen === "" ? last : this.#sha256(last + seen));
    }
    return this.#known[at];
  }
}

/** How much text there is in parts, near enough. */
function unitsOf(parts: readonly Part[]): number {
  let units = 0;
  for (const part of parts) {
    const { content } = part;
    units += wordsOf(part).length;
    if (content.case === "toolCall") units += content.value.argumentsJson.length;
    else if (content.case === "toolResult") units += unitsOf(content.value.parts);
    else if (content.case === "extra") units += content.value.json.length;
    else if (content.case === "image" || content.case === "audio" || content.case === "file")
      units += content.value.source.case === "data" ? 0 : (content.value.source.value?.length ?? 0);
  }
  return units;
}

/** What of a message stays the same when a client sends it again; instructions do not, since many tell the time of day. */
function visible({ role, parts }: Message): string {
  if (role === Role.SYSTEM || role === Role.DEVELOPER) return "";
  let words = "";
  const others: (string | number)[][] = [];
  for (const part of parts) {
    const { content } = part;
    words += wordsOf(part);
    if (content.case === "toolCall") others.push(["call", content.value.id, content.value.name, sameJson(content.value.argumentsJson)]);
    else if (content.case === "toolResult") others.push(["result", content.value.toolCallId, ...content.value.parts.map(seenOf)]);
    else if (content.case !== "reasoning") others.push([seenOf(part)]);
  }
  return JSON.stringify([role, words, others]);
}

/** A part that is no thinking and no call, in short: of bytes how many, and a sample of them. */
function seenOf(part: Part): string {
  const { content } = part;
  if (content.case === "image" || content.case === "audio" || content.case === "file") {
    const { source } = content.value;
    if (source.case !== "data") return `${content.case} ${source.value ?? ""}`;
    return `${content.case} ${source.value.length} ${[...source.value.subarray(0, 48), ...source.value.subarray(-48)].join(",")}`;
  }
  return content.case === "extra" ? content.value.json : wordsOf(part);
}

/** JSON as every client writes it that reads and writes it again. */
function sameJson(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text;
  }
}

/** More thinking than this in one turn is not kept, so it is not held meanwhile either; the store's own limit counts two bytes a unit. */
const heldTextMax = 1024 * 1024;

/** Hears one answer, and tells of each of its turns that has sealed thinking, once the answer is complete. */
class Listener {
  readonly #target: CallTarget;
  readonly #tell: (turn: SealedTurn, calls: readonly CallName[], textLength: number) => void;
  /** By choice; nearly always there is one. */
  readonly #turns: HeardTurn[] = [];

  constructor(target: CallTarget, tell: (turn: SealedTurn, calls: readonly CallName[], textLength: number) => void) {
    this.#target = target;
    this.#tell = tell;
  }

  /** Takes in a batch. Until thinking passes this counts, and keeps nothing but the names of calls. */
  hear(batch: Batch): void {
    for (const { event } of batch) {
      switch (event.case) {
        case "text":
        case "refusal":
          this.#turn(event.value.choice).text += event.value.text.length;
          break;
        case "toolCall":
          if (event.value.id !== "") this.#turn(event.value.choice).calls.push({ id: event.value.id, name: event.value.name });
          break;
        case "reasoning":
          think(this.#turn(event.value.choice), event.value);
          break;
        case "end":
          this.#end();
          break;
        default:
          break;
      }
    }
  }

  #turn(choice: number): HeardTurn {
    const turn = this.#turns[choice];
    if (turn !== undefined) return turn;
    const fresh: HeardTurn = { text: 0, calls: [], blocks: [], held: 0 };
    this.#turns[choice] = fresh;
    return fresh;
  }

  #end(): void {
    const { provider, model, seals } = this.#target;
    this.#turns.forEach(({ blocks, calls, text, held }) => {
      const sealed = blocks.filter(({ signature, redacted }) => signature !== "" || redacted !== "").map(packed);
      if (sealed.length > 0 && held <= heldTextMax && seals !== undefined)
        this.#tell({ provider, model, dialect: seals.dialect, blocks: sealed }, calls, text);
    });
  }
}

interface HeardTurn {
  text: number;
  readonly calls: CallName[];
  blocks: (SealedBlock & { readonly number: number; text: string; signature: string; redacted: string; dialect: string })[];
  /** Units of thinking that are held. */
  held: number;
}

/** A block that takes the room that it is counted with: a text that was joined from pieces holds on to all of them. */
function packed({ text, signature, redacted, dialect, textBefore, callsBefore }: SealedBlock): SealedBlock {
  return { text: inOnePiece(text), signature: inOnePiece(signature), redacted: inOnePiece(redacted), dialect, textBefore, callsBefore };
}

function inOnePiece(text: string): string {
  return Buffer.from(text, "utf16le").toString("utf16le");
}

/** A piece of thinking. */
function think(turn: HeardTurn, { block: number, text, signature, redacted, dialect }: ReasoningDelta): void {
  turn.held += text.length + signature.length + redacted.length;
  if (turn.held > heldTextMax) {
    turn.blocks = [];
    return;
  }
  let block = turn.blocks.at(-1);
  if (block?.number !== number) block = turn.blocks.find((candidate) => candidate.number === number);
  if (block === undefined) {
    block = { number, text: "", signature: "", redacted: "", dialect: "", textBefore: turn.text, callsBefore: turn.calls.length };
    turn.blocks.push(block);
  }
  block.text += text;
  block.signature += signature;
  block.redacted += redacted;
  if (dialect !== "") block.dialect = dialect;
}
