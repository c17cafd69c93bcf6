/**
 * Arguments of tool calls on their way back to a model. Models write empty and broken ones, callers give them back as they were, and a
 * conversation that holds some must be able to go on.
 */
import { isObject, type JsonValue, RawJson } from "../framing/json.ts";

/** For APIs that take an object: the arguments byte for byte where they are one; `{}` for none; else `{"value": text}`. */
export function argumentsObject(text: string): JsonValue {
  if (isNone(text)) return {};
  return isJsonObject(text) ? new RawJson(text.trim()) : { value: text };
}

/** For APIs that take the text of an object: as `argumentsObject`, as text. */
export function argumentsObjectText(text: string): string {
  if (isNone(text)) return "{}";
  return isJsonObject(text) ? text : JSON.stringify({ value: text });
}

/** For APIs that take any text: as it is, but `{}` for none, since the next reader may not take the empty text or null for an object. */
export function argumentsText(text: string): string {
  return isNone(text) ? "{}" : text;
}

/** Whether arguments are the text of a JSON object, with blanks around it or without. */
export function isJsonObject(text: string): boolean {
  // What does not end so need not be parsed to know.
  if (!text.trimEnd().endsWith("}")) return false;
  try {
    return isObject(JSON.parse(text));
  } catch {
    return false;
  }
}

function isNone(text: string): boolean {
  // Longer ones are something, and need not be trimmed to know.
  if (text.length > 64) return false;
  const trimmed = text.trim();
  return trimmed === "" || trimmed === "null";
}
