/** Options whose values are numbers. */
import { InvalidArgumentError, Option } from "commander";

/** An option that names a port. */
export function port(flags: string, description: string, fallback: number): Option {
  return new Option(flags, description).default(fallback).argParser((text) => whole(text, 0, 65_535));
}

/** A whole number from its digits. Throws what commander tells as a wrong option. */
export function whole(text: string, min: number, max: number = Number.MAX_SAFE_INTEGER): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  throw new InvalidArgumentError(`Expected a whole number from ${min}${max === Number.MAX_SAFE_INTEGER ? "" : ` to ${max}`}.`);
}
