/**
 * Errors as servers of open models write them, in bodies of refusals and inside answers: `{"error":"text"}`, `{"error":["text"]}`,
 * `{"error":{"message","type","code"}}`, the first with `error_type` beside it, any of these as the one element of a list, plain text,
 * and markup of whatever stands before the server.
 */
import { isObject, type JsonObject } from "../framing/json.ts";

/** What an error says, in the provider's words; each is undefined where it says nothing. */
export interface ErrorWords {
  readonly message: string | undefined;
  readonly type: string | undefined;
  readonly errorCode: string | undefined;
  /** An HTTP status that stands among the words. */
  readonly status: number | undefined;
}

/** The error that a value of an answer is, or undefined for a value that is none. */
export function errorIn(value: unknown): ErrorWords | undefined {
  const body = Array.isArray(value) && value.length === 1 ? (value[0] as unknown) : value;
  if (!isObject(body)) return undefined;
  const { error } = body;
  if (isObject(error)) return wordsOf(error);
  const message = messageOf(error);
  if (message !== undefined) return { ...wordsOf(body), message };
  return typeof body.error_type === "string" ? wordsOf(body) : undefined;
}

/** What the body of a refusal says. */
export function errorOfBody(text: string): ErrorWords {
  const body = parsed(text);
  // A list or a word alone is nothing that a person wrote for another.
  if (!isObject(body) && !Array.isArray(body)) return { ...noWords, message: body === undefined ? text : undefined };
  return errorIn(body) ?? (isObject(body) ? wordsOf(body) : noWords);
}

const noWords: ErrorWords = { message: undefined, type: undefined, errorCode: undefined, status: undefined };

function wordsOf(error: JsonObject): ErrorWords {
  const { code } = error;
  return {
    message: messageOf(error.message) ?? messageOf(error.detail),
    type: [error.type, error.error_type].find((word): word is string => typeof word === "string"),
    errorCode: typeof code === "string" || typeof code === "number" ? String(code) : undefined,
    status: [error.status_code, error.status, code].map(statusOf).find((status) => status !== undefined),
  };
}

function messageOf(value: unknown): string | undefined {
  if (typeof value === "string") return value === "" ? undefined : value;
  if (!Array.isArray(value)) return undefined;
  const texts = value.filter((each) => typeof each === "string" && each !== "");
  return texts.length === 0 ? undefined : texts.join("; ");
}

function statusOf(value: unknown): number | undefined {
  const status = typeof value === "string" && /^\d{3}$/.test(value) ? Number(value) : value;
  return typeof status === "number" && Number.isInteger(status) && status >= 400 && status <= 599 ? status : undefined;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
