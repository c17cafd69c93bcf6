/**
 * Reads refusals with an error object in their bodies: by status where there is one, by type and code where an error came inside an answer.
 *
 * Bodies in the wild: `{"error":{"message","type","param","code"}}` with a code that is text, a number or null; the same members
 * without the object around them; `{"error":"text"}`, `{"error":["text"]}`, `{"detail":…}`, `{"message":…}`; plain text; markup.
 */
import { type Fault, FaultReason } from "../../proto/fault.ts";
import { isObject, type JsonObject } from "../framing/json.ts";
import type { RefusedAnswer } from "./dialect.ts";
import { bodyText, classOfStatus, type RefusalClass, refusalFault, retryAfter } from "./refusal.ts";

/** Reads an answer whose status says that it is a refusal. */
export function readFault(refused: RefusedAnswer): Fault {
  const text = bodyText(refused.body);
  const body = parsed(text);
  const error = body === undefined ? { ...noWords, message: text } : (readError(body) ?? noWords);
  const { status } = refused;
  const retryAfterMs = delayOf(refused) ?? (status === 503 ? loadingMs(body) : undefined);
  return refusalFault({ ...error, status, refusal: classOf(status, error), retryAfterMs });
}

/** Reads an error that came inside an answer with a good status: maps it as if the status had been right. */
export function faultInAnswer(error: ErrorWords): Fault {
  const status = error.status ?? statusOfWords(error);
  return refusalFault({ ...error, status, refusal: classOf(status, error) });
}

/** What an error body says, in the provider's words. */
export interface ErrorWords {
  readonly message: string | undefined;
  readonly type: string | undefined;
  readonly errorCode: string | undefined;
  readonly field: string | undefined;
  /** A status that stands in the body, or undefined. */
  readonly status: number | undefined;
}

/** The error that a body holds, or undefined for a body that is none. */
export function readError(body: JsonObject): ErrorWords | undefined {
  const { error } = body;
  if (isObject(error)) return wordsOf(error);
  if (typeof error === "string") return { ...wordsOf(body), message: error };
  if (Array.isArray(error)) return { ...wordsOf(body), message: error.filter((line) => typeof line === "string").join(" ") };
  if (error !== undefined && error !== null && error !== false) return noWords;
  // Without the object around it, as older servers write it; an answer never has this word.
  if (body.object === "error" || typeof body.error_type === "string") return wordsOf(body);
  if (body.choices === undefined && (body.message !== undefined || body.detail !== undefined)) return wordsOf(body);
  return undefined;
}

/** An error that says nothing. */
export const noWords: ErrorWords = { message: undefined, type: undefined, errorCode: undefined, field: undefined, status: undefined };

function wordsOf(error: JsonObject): ErrorWords {
  const type = [error.type, error.error_type].find((word) => typeof word === "string");
  const { code } = error;
  return {
    message: messageOf(error.message) ?? messageOf(error.detail) ?? messageOf(error.error),
    type: typeof type === "string" ? type : undefined,
    errorCode: typeof code === "string" || typeof code === "number" ? String(code) : undefined,
    field: typeof error.param === "string" ? error.param : (placeOf(error.detail) ?? placeOf(error.message)),
    status: [error.status_code, error.statusCode, error.status, code].map(statusOf).find((status) => status !== undefined),
  };
}

/** Validation errors can be objects or lists of them: their texts are taken, nothing else. */
function messageOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (Array.isArray(value)) {
    const texts = value.map((entry) => messageOf(entry)).filter((text) => text !== undefined);
    return texts.length === 0 ? undefined : texts.join("; ");
  }
  if (isObject(value)) return messageOf(value.msg ?? value.message ?? value.detail);
  return undefined;
}

/** The field that the first of several validation errors blames: the steps to it, from the body on. */
function placeOf(value: unknown): string | undefined {
  if (isObject(value)) return placeOf(value.detail);
  const first: unknown = Array.isArray(value) ? value[0] : undefined;
  if (!isObject(first) || !Array.isArray(first.loc)) return undefined;
  const steps = (first.loc as readonly unknown[]).filter((step, index) => !(index === 0 && step === "body"));
  let path = "";
  for (const step of steps) {
    if (typeof step === "number") path += `[${step}]`;
    else if (typeof step === "string") path += path === "" ? step : `.${step}`;
  }
  return path === "" ? undefined : path;
}

function statusOf(value: unknown): number | undefined {
  const status = typeof value === "string" && /^\d{3}$/.test(value) ? Number(value) : value;
  return typeof status === "number" && Number.isInteger(status) && status >= 400 && status <= 599 ? status : undefined;
}

function parsed(text: string): JsonObject | undefined {
  try {
    const value = JSON.parse(text) as unknown;
    // Some servers put the one error into a list.
    const single = Array.isArray(value) && value.length === 1 ? (value[0] as unknown) : value;
    return isObject(single) ? single : { error: value };
  } catch {
    return undefined;
  }
}

/** The class by status, made finer by what the provider says. */
function classOf(status: number, error: ErrorWords): RefusalClass {
  const word = (error.errorCode ?? "").toLowerCase();
  const type = (error.type ?? "").toLowerCase();
  const message = error.message ?? "";
  if (status === 429 || status === 402 || status === 403 || status === 400) {
    if (quotaWords.has(word) || quotaWords.has(type)) return { reason: FaultReason.PROVIDER_QUOTA_SPENT, code: "RESOURCE_EXHAUSTED" };
  }
  if (status === 400 || status === 403) {
    if (credentialWords.has(word) || credentialWords.has(type)) return classOfStatus(401);
    if (filterWords.has(word) || filterWords.has(type)) return { reason: FaultReason.PROVIDER_CONTENT_FILTER, code: "INVALID_ARGUMENT" };
  }
  if (status === 400 || status === 413 || status === 422) {
    if (word === "model_not_found") return classOfStatus(404);
    // Servers that have no code for it say it in these words, and have for years.
    if (
      word === "context_length_exceeded" ||
      /maximum context length|context (?:length|window|size) (?:is )?exceed|exceeds? the (?:available |model's )?context/i.test(message)
    ) {
      return { reason: FaultReason.CONTEXT_TOO_LONG, code: "INVALID_ARGUMENT" };
    }
  }
  return classOfStatus(status);
}

const quotaWords: ReadonlySet<string> = new Set([
  "insufficient_quota",
  "billing_hard_limit_reached",
  "billing_not_active",
  "quota_exceeded",
]);
const credentialWords: ReadonlySet<string> = new Set([
  "invalid_api_key",
  "authentication_error",
  "invalid_authentication",
  "account_deactivated",
]);
const filterWords: ReadonlySet<string> = new Set([
  "content_filter",
  "content_policy_violation",
  "responsibleaipolicyviolation",
  "moderation_blocked",
  "data_inspection_failed",
]);

/** The status that an error's words stand for, where nothing else gives one. */
function statusOfWords(error: ErrorWords): number {
  for (const word of [error.errorCode, error.type]) {
    const status = statusByWord.get((word ?? "").toLowerCase());
    if (status !== undefined) return status;
  }
  return 500;
}

const statusByWord: ReadonlyMap<string, number> = new Map([
  ["invalid_api_key", 401],
  ["authentication_error", 401],
  ["insufficient_quota", 429],
  ["rate_limit_exceeded", 429],
  ["rate_limit_error", 429],
  ["too_many_requests", 429],
  ["tokens", 429],
  ["requests", 429],
  ["permission_error", 403],
  ["permission_denied", 403],
  ["model_not_found", 404],
  ["not_found_error", 404],
  ["notfounderror", 404],
  ["context_length_exceeded", 400],
  ["content_filter", 400],
  ["content_policy_violation", 400],
  ["tool_use_failed", 400],
  ["invalid_request_error", 400],
  ["badrequesterror", 400],
  ["validation", 422],
  ["timeout", 504],
  ["timeout_error", 504],
  // The word of a server whose status for it is 429, too.
  ["overloaded", 429],
  ["overloaded_error", 503],
  ["service_unavailable", 503],
  ["service_unavailable_error", 503],
  ["server_error", 500],
  ["api_error", 500],
  ["internal_server_error", 500],
  ["internalservererror", 500],
  ["generation", 424],
  ["incomplete_generation", 500],
  ["template_error", 422],
  ["tool_error", 422],
  ["deploymentnotfound", 404],
  ["ratelimitreached", 429],
]);

/** When to try again: as the provider says, or for a spent rate when its window begins anew. */
function delayOf(refused: RefusedAnswer): number | undefined {
  const said = retryAfter(refused);
  if (said !== undefined || refused.status !== 429) return said;
  let delay: number | undefined;
  for (const unit of ["requests", "tokens"]) {
    if (refused.header(`x-ratelimit-remaining-${unit}`)?.trim() !== "0") continue;
    const reset = duration(refused.header(`x-ratelimit-reset-${unit}`) ?? "");
    if (reset !== undefined) delay = Math.max(delay ?? 0, reset);
  }
  return delay ?? windowOf(refused);
}

/**
 * The window of a rate that is spent, where a server names its windows and not when they end: the end is no further away than that. A
 * month is left out, since a delay of weeks is no delay.
 */
function windowOf(refused: RefusedAnswer): number | undefined {
  const isSpent = (rate: string): boolean => refused.header(`x-ratelimit-remaining-${rate}`)?.trim() === "0";
  if (isSpent("req-minute") || isSpent("tokens-minute")) return 60_000;
  return isSpent("req-10-second") ? 10_000 : undefined;
}

/** How long a model that is being loaded will take, where the body says so in seconds. */
function loadingMs(body: JsonObject | undefined): number | undefined {
  const seconds = body?.estimated_time;
  // An hour is more than any model takes, so more is something else.
  return typeof seconds === "number" && seconds > 0 && seconds <= 3600 ? Math.ceil(seconds * 1000) : undefined;
}

/** Reads a duration such as `6m0s` or `120ms`, in milliseconds. */
function duration(text: string): number | undefined {
  if (!/^(?:\d{1,9}(?:\.\d{1,9})?(?:ms|s|m|h|d))+$/.test(text)) return undefined;
  let milliseconds = 0;
  for (const [, amount = "", unit = ""] of text.matchAll(/([\d.]+)(ms|[smhd])/g)) milliseconds += Number(amount) * (unitMs[unit] ?? 0);
  return Math.ceil(milliseconds);
}

const unitMs: Readonly<Record<string, number>> = Object.freeze({ ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 });
