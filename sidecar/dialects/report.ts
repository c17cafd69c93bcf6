/** What a request could not say as it was asked: refusals, and warnings where policy lets things be left out. */
import { Fault, FaultReason } from "../../proto/fault.ts";
import { type Message, Role } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { Warning } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";

/** Gathers the warnings of one request, and refuses it where it must be. */
export class Report {
  readonly warnings: Warning[] = [];
  readonly #model: string;
  readonly #dropUnsupported: boolean;

  /** `dropUnsupported`: whether what the model does not support is left out and reported; otherwise the request is refused. */
  constructor(model: string, dropUnsupported: boolean) {
    this.#model = model;
    this.#dropUnsupported = dropUnsupported;
  }

  /** Something cannot be carried: it is left out if policy says so, or if it is a hint. `why` goes on with the sentence that names the field. */
  unsupported(field: string, why = ""): void {
    if (isHint(field)) this.#leftOut(field, why);
    else this.denied(field, why);
  }

  /** Something cannot be carried that is no hint, even if it has the name of one. */
  denied(field: string, why = ""): void {
    if (!this.#dropUnsupported) throw this.refusal(field, why);
    this.#leftOut(field, why);
  }

  /**
   * A message says who speaks, and the dialect has no word for that. Of what a tool returned the call says it already, and callers give
   * the tool's name all the same, since the format once wanted it.
   */
  speaker({ name, role }: Message, path: string): void {
    if (name === "") return;
    if (role === Role.TOOL) this.dropped(`${path}.name`, "The name of the tool was left out: the id of its call says which one it is.");
    else this.unsupported(`${path}.name`);
  }

  /** The fault that something cannot be carried, for what nothing is left to ask without. */
  refusal(field: string, why = ""): Fault {
    return new Fault(FaultReason.PARAMETER_UNSUPPORTED, `The model ${this.#model} does not support ${field}${why}.`, {
      field,
      facts: { model: this.#model },
    });
  }

  /** Something is left out that is a hint and no order. */
  dropped(field: string, message: string): void {
    this.#warn("PARAMETER_DROPPED", field, message);
  }

  /** Something is sent otherwise than asked, because the model takes it in no other way. */
  changed(field: string, message: string): void {
    this.#warn("PARAMETER_CHANGED", field, message);
  }

  /** The fault that the request breaks a rule which holds for every model of this dialect. */
  invalid(field: string, message: string): Fault {
    return new Fault(FaultReason.REQUEST_INVALID, `${field}: ${message}`, { field });
  }

  #leftOut(field: string, why: string): void {
    this.dropped(field, `${field} was left out: the model ${this.#model} does not support it${why}.`);
  }

  #warn(code: string, field: string, message: string): void {
    this.warnings.push({ $typeName: "outrigger.chat.v1.Warning", code, field, message });
  }
}

/**
 * Whether a field, by its path, changes nothing of the answer, or only gives back what stood in an earlier one: clients put whole messages
 * of theirs back into the conversation, whichever provider answers next. It is left out rather than refused where it has no place.
 */
export function isHint(field: string): boolean {
  for (let path = field.replace(/\[\d+\]/g, "[]"); path !== ""; path = path.slice(0, Math.max(path.lastIndexOf("."), 0))) {
    if (hints.has(path.endsWith("[]") ? path.slice(0, -2) : path)) return true;
  }
  return false;
}

const hints: ReadonlySet<string> = new Set([
  "user",
  "metadata",
  "store",
  "safety_identifier",
  "prompt_cache_key",
  "prompt_cache_retention",
  "stream_options",
  // What callers give back with an answer because it stood there.
  "messages[].annotations",
  "messages[].reasoning",
  "messages[].reasoning_details",
  "messages[].tool_calls[].index",
]);
