/**
 * A value in a request that comes from outside, with its place: what it must be is said where it is read, and a value that is
 * something else is refused with its path, what was seen and what was expected.
 */
import { Fault, FaultReason } from "../../proto/fault.ts";
import { isObject, type JsonObject, type JsonPlace } from "../framing/json.ts";

/** One value of a request. */
export class Field {
  readonly value: unknown;
  readonly #place: JsonPlace;

  constructor(value: unknown, place: JsonPlace) {
    this.value = value;
    this.#place = place;
  }

  /** Whether something is here: `null` says as little as a missing member. */
  get given(): boolean {
    return this.value !== undefined && this.value !== null;
  }

  /** Where it stands, such as `messages[2].content`. */
  get path(): string {
    return this.#place.path;
  }

  /** The value's exact text. */
  json(): string {
    return this.#place.json();
  }

  /** A member of the object here. */
  member(key: string): Field {
    const object = this.object();
    return new Field(Object.hasOwn(object, key) ? object[key] : undefined, this.#place.member(key));
  }

  /** The names of all members of the object here that say something. */
  keys(): string[] {
    const object = this.object();
    return Object.keys(object).filter((key) => object[key] !== null);
  }

  object(): JsonObject {
    if (!isObject(this.value)) throw this.refusal("an object");
    return this.value;
  }

  elements(expected = "an array"): Field[] {
    if (!Array.isArray(this.value)) throw this.refusal(expected);
    return this.value.map((value, index) => new Field(value, this.#place.element(index)));
  }

  string(expected = "a string"): string {
    if (typeof this.value !== "string") throw this.refusal(expected);
    return this.value;
  }

  boolean(): boolean {
    if (typeof this.value !== "boolean") throw this.refusal("true or false");
    return this.value;
  }

  /** A number from `min` to `max`. */
  number(min: number, max: number): number {
    if (typeof this.value !== "number" || !(this.value >= min && this.value <= max)) {
      throw this.refusal(max === Number.MAX_VALUE ? `a number of at least ${min}` : `a number from ${min} to ${max}`);
    }
    return this.value;
  }

  /** A whole number of at least 0. */
  count(): bigint {
    if (typeof this.value !== "number" || !Number.isSafeInteger(this.value) || this.value < 0) {
      throw this.refusal("a whole number of at least 0");
    }
    return BigInt(this.value);
  }

  /** The fault that this is not what it should be. */
  refusal(expected: string): Fault {
    return this.broken(`expected ${expected}, saw ${seen(this.value)}`);
  }

  /** The fault that this is none of a few words. The word is shown if it looks like one, since it is then a name and no content. */
  unknownWord(expected: string): Fault {
    const word = typeof this.value === "string" && /^[a-z0-9_-]{1,64}$/i.test(this.value) ? JSON.stringify(this.value) : seen(this.value);
    return this.broken(`expected ${expected}, saw ${word}`);
  }

  /** The fault that this breaks a rule. */
  broken(rule: string): Fault {
    const field = this.#place.path;
    return new Fault(FaultReason.REQUEST_INVALID, `${field}: ${rule}`, { field });
  }
}

/** What kind of value stands somewhere, without showing content: strings may be anything that a caller wrote. */
function seen(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  switch (typeof value) {
    case "object":
      return "an object";
    case "string":
      return "a string";
    default:
      return String(value);
  }
}
