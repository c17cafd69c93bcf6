/** What a request could not say as it was asked: refusals, and warnings where policy lets things be left out. */
import { Fault, FaultReason } from "../../proto/fault.ts";
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

  /** Something cannot be carried. `why` goes on with the sentence that names the field. */
  unsupported(field: string, why = ""): void {
    if (this.#dropUnsupported) {
      this.dropped(field, `${field} was left out: the model ${this.#model} does not support it${why}.`);
      return;
    }
    throw this.refusal(field, why);
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

  #warn(code: string, field: string, message: string): void {
    this.warnings.push({ $typeName: "outrigger.chat.v1.Warning", code, field, message });
  }
}
