/**
 * Numbers that look random and are the same every time: all that the demo provider makes up comes from here.
 */
import { createHash } from "node:crypto";

/** A sequence of numbers that depends on nothing but the text it begins with. */
export class Seeded {
  #state: number;

  constructor(text: string) {
    this.#state = Number.parseInt(digest(text).slice(0, 8), 16) | 0;
  }

  /** A number from 0 up to but not including 1. */
  next(): number {
    // A counter that steps by the golden ratio, its bits then mixed (the finaliser of MurmurHash3): plain, and even enough for prose.
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32;
  }

  /** A whole number from 0 up to but not including `below`. */
  below(below: number): number {
    return Math.floor(this.next() * below);
  }

  /** One of the values, each as likely as the others. There must be one. */
  pick<Value>(values: readonly Value[]): Value {
    const value = values[this.below(values.length)];
    if (value === undefined) throw new Error("there is nothing to pick from");
    return value;
  }
}

/** SHA-256 of a text, as 64 hexadecimal digits. */
export function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
