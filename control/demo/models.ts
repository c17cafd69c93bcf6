/**
 * The models that the demo provider offers, and how their names say what they do.
 *
 * A name is `demo`, or `demo:` and a preset, and may end in settings as in a query: `demo:slow?ttft=200&gap=5`. The settings change
 * what the preset says, so that a test can ask for exactly the trouble it wants to see.
 */

/** What a model does beside answering. */
export interface Behaviour {
  /** From the request to the first token, in milliseconds. */
  readonly firstTokenMs: number;
  /** Between two tokens, in milliseconds. */
  readonly gapMs: number;
  /** Up to this much is added to each gap, in milliseconds. */
  readonly jitterMs: number;
  /** Whether it calls tools whatever the prompt says; otherwise it calls those that fit the prompt. */
  readonly callsTools: boolean;
  /** Whether it thinks aloud without being asked to. */
  readonly reasons: boolean;
  /** Whether it declines. */
  readonly refuses: boolean;
  /** Bytes of its answer, or 0 for an answer of natural length. */
  readonly answerBytes: number;
  /** The most tokens that a prompt may have. */
  readonly contextTokens: number;
  readonly failure: Failure;
  /** Tokens after which a cut or a silence sets in; for other failures without meaning. */
  readonly failsAfterTokens: number;
  /** Of a flaky model: the share of requests that fail, from 0 to 1. */
  readonly failureRate: number;
  /** Of a model that limits its rate: what it says about when to come back, in milliseconds. */
  readonly retryAfterMs: number;
}

/** How a model fails: by an HTTP status, by a cut connection, by silence, or sometimes one and sometimes the other. */
export type Failure = "none" | "rate_limit" | "server_error" | "cut" | "silence" | "flaky";

/** A model name that was understood. */
export interface DemoModel {
  /** The name as it was asked for. */
  readonly name: string;
  readonly behaviour: Behaviour;
}

const plain: Behaviour = {
  firstTokenMs: 0,
  gapMs: 0,
  jitterMs: 0,
  callsTools: false,
  reasons: false,
  refuses: false,
  answerBytes: 0,
  contextTokens: 128_000,
  failure: "none",
  failsAfterTokens: 8,
  failureRate: 0.3,
  retryAfterMs: 2_000,
};

const presets: ReadonlyMap<string, Partial<Behaviour>> = new Map<string, Partial<Behaviour>>([
  ["demo", {}],
  ["demo:tools", { callsTools: true }],
  ["demo:reasoning", { reasons: true }],
  ["demo:refusal", { refuses: true }],
  ["demo:slow", { firstTokenMs: 1_500, gapMs: 60 }],
  ["demo:long", { answerBytes: 20_000_000 }],
  ["demo:flaky", { failure: "flaky" }],
  ["demo:429", { failure: "rate_limit" }],
  ["demo:500", { failure: "server_error" }],
  ["demo:cut", { failure: "cut" }],
  ["demo:timeout", { failure: "silence", failsAfterTokens: 0 }],
]);

/** The settings that a name may carry: which field each one is, and the largest value that makes sense. */
const settings: ReadonlyMap<string, { readonly field: NumericField; readonly max: number }> = new Map([
  ["ttft", { field: "firstTokenMs", max: 600_000 }], // ten minutes: no client waits longer
  ["gap", { field: "gapMs", max: 600_000 }],
  ["jitter", { field: "jitterMs", max: 600_000 }],
  ["bytes", { field: "answerBytes", max: 1_000_000_000 }], // a gigabyte: the text is never held whole in a stream
  ["context", { field: "contextTokens", max: 10_000_000 }],
  ["after", { field: "failsAfterTokens", max: 10_000_000 }],
  ["rate", { field: "failureRate", max: 1 }],
  ["retry", { field: "retryAfterMs", max: 86_400_000 }], // a day, the longest wait that a client would take seriously
]);

type NumericField = { [Field in keyof Behaviour]: Behaviour[Field] extends number ? Field : never }[keyof Behaviour];

/** The names without settings, in the order in which they are listed. */
export const modelNames: readonly string[] = [...presets.keys()];

/** Reads a model name. Returns undefined for a model that is not here, and the words of a complaint for a setting that cannot be. */
export function readModel(name: string): DemoModel | string | undefined {
  const [base = "", query] = splitOnce(name, "?");
  const preset = presets.get(base);
  if (preset === undefined) return undefined;
  const behaviour: { -readonly [Field in keyof Behaviour]: Behaviour[Field] } = { ...plain, ...preset };
  for (const [key, text] of new URLSearchParams(query ?? "")) {
    const setting = settings.get(key);
    if (setting === undefined) return `The model '${base}' has no setting '${key}'. It has: ${[...settings.keys()].join(", ")}.`;
    const value = Number(text);
    if (text.trim() === "" || !(value >= 0 && value <= setting.max)) {
      return `The model setting '${key}' must be a number from 0 to ${setting.max}, but was '${text}'.`;
    }
    behaviour[setting.field] = value;
  }
  return { name, behaviour };
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at === -1 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}
