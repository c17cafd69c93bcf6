/**
 * Puts the tool calls of one choice together from their pieces.
 *
 * The format says: an index on every piece, id and name on the first. Servers that borrow it leave out the index, begin it at 1, use it
 * again for the next call, send the id late, never or with every piece, and the name after the first piece of the arguments. What comes
 * out has all of it in order: calls numbered from 0 as they appear, id and name on the first piece and nowhere else, arguments that
 * together are an object's text. A call is never taken for finished because its arguments could be parsed.
 */
import { toolCallEvent } from "../../../proto/chat.ts";
import type { ChatEvent } from "../../../proto/gen/outrigger/chat/v1/events_pb.ts";

/** A piece of a call as the wire brought it; what was missing, null or of the wrong kind is empty. */
export interface ToolCallPiece {
  readonly index: number | undefined;
  readonly id: string;
  readonly name: string;
  readonly argumentsJson: string;
  /** Whether the wire had each of these in the form that the format says. */
  readonly exact: boolean;
}

/** The calls of one choice. */
export class ToolCalls {
  /**
   * Whether anything was put right: then the wire's own pieces do not say what the events say, and must not be passed on beside them.
   * Callers would be left with calls that have no id, or with arguments that are no JSON.
   */
  repaired = false;
  readonly #choice: number;
  readonly #newId: (prefix: string) => string;
  readonly #calls: AssembledCall[] = [];
  #begun = 0;

  constructor(choice: number, newId: (prefix: string) => string) {
    this.#choice = choice;
    this.#newId = newId;
  }

  /** Whether there is any call. */
  get any(): boolean {
    return this.#calls.length > 0;
  }

  /** Takes in a piece and adds the events that it completes. */
  add(piece: ToolCallPiece, out: ChatEvent[]): void {
    const known = this.#calls.length;
    const call = this.#find(piece);
    if (call === undefined) return;
    const first = this.#calls.length > known;
    if (call.id === "") call.id = piece.id;
    if (call.name === "") call.name = piece.name;
    call.held += piece.argumentsJson;
    this.#advance(call, out);
    const inForm = first ? piece.id !== "" && piece.name !== "" : piece.id === "" && piece.name === "";
    // What is held back was on the wire already, and may turn out to stand for nothing.
    if (!inForm || !piece.exact || piece.index !== call.index || call.held !== "") this.repaired = true;
  }

  /** The choice is finished: closes every call. False if a call never got a name, without which it is none. */
  finish(out: ChatEvent[]): boolean {
    for (const call of this.#calls) {
      if (call.name === "") return false;
      if (call.wroteArguments) continue;
      // No arguments, and the word null for them, are an empty object: anything else breaks the next turn.
      out.push(this.#piece(call, "{}"));
      this.repaired = true;
      call.wroteArguments = true;
    }
    return true;
  }

  /** The call that a piece belongs to: one that was there, or a new one; none for a piece that says nothing. */
  #find(piece: ToolCallPiece): AssembledCall | undefined {
    const last = this.#calls.at(-1);
    if (piece.index !== undefined) {
      const found = this.#calls.findLast((call) => call.wireIndex === piece.index);
      if (found !== undefined && !isAnotherCall(found, piece)) return found;
    } else if (piece.id !== "") {
      const found = this.#calls.findLast((call) => call.id === piece.id);
      if (found !== undefined) return found;
      // An id on its own is the late id of a call that waits for one.
      if (last !== undefined && last.id === "" && (piece.name === "" || last.name === "")) return last;
    } else if (last !== undefined && (piece.name === "" || last.name === "")) {
      return last;
    }
    if (piece.id === "" && piece.name === "" && piece.argumentsJson === "") return undefined;
    const call = { index: -1, wireIndex: piece.index, id: "", name: "", held: "", begun: false, wroteArguments: false };
    this.#calls.push(call);
    return call;
  }

  #advance(call: AssembledCall, out: ChatEvent[]): void {
    const nothingYet = !call.wroteArguments && isNothingYet(call.held);
    // Until there are arguments, a call without its name or id may still get them.
    if (call.name === "" || (call.id === "" && nothingYet)) return;
    if (nothingYet) {
      if (!call.begun) out.push(this.#piece(call, ""));
      return;
    }
    if (call.held === "" && call.begun) return;
    out.push(this.#piece(call, call.held));
    call.held = "";
    call.wroteArguments = true;
  }

  #piece(call: AssembledCall, argumentsJson: string): ChatEvent {
    if (call.begun) return toolCallEvent(this.#choice, call.index, "", "", argumentsJson);
    call.begun = true;
    call.index = this.#begun++;
    if (call.id === "") {
      call.id = this.#newId("call_");
      call.madeId = true;
    }
    return toolCallEvent(this.#choice, call.index, call.id, call.name, argumentsJson);
  }
}

interface AssembledCall {
  /** The call's number here, or -1 before its first piece is given on. */
  index: number;
  /** Its index on the wire, if it had one. */
  readonly wireIndex: number | undefined;
  id: string;
  /** The id is ours, so one that comes later names the same call. */
  madeId?: boolean;
  name: string;
  /** Arguments that were not given on yet. */
  held: string;
  /** Whether its first piece was given on. */
  begun: boolean;
  wroteArguments: boolean;
}

/** Whether a piece at a call's index begins another call: it has a provider's id that is not the call's own. */
function isAnotherCall(call: AssembledCall, piece: ToolCallPiece): boolean {
  if (piece.id === "" || call.id === "" || piece.id === call.id) return false;
  return call.madeId !== true || (piece.name !== "" && piece.name !== call.name);
}

/** Whether arguments so far could still turn out to be none: nothing but blanks, or the beginning of the word null. */
function isNothingYet(text: string): boolean {
  return text.length < 32 && "null".startsWith(text.trim());
}
