/** What is measured: every row of the tables, and beside which other row it stands. */
import type { Asked, DoorKey } from "./doors.ts";
import { wayOf } from "./doors.ts";
import { ANSWER_BYTES } from "./payloads.ts";
import type { SubjectKey } from "./subjects/start.ts";

/** How a row is loaded. */
export type Load =
  /** As much as it can do: so many connections with so many calls at once on each. */
  | { readonly kind: "saturated"; readonly connections: number; readonly streams: number }
  /** So many calls a second; `half` is half of what the subject could do in the row `of`. */
  | { readonly kind: "rate"; readonly ratePerS: number | "half"; readonly of: string }
  /** So many streams at once that each say something every 20 ms. */
  | { readonly kind: "paced"; readonly connections: number; readonly streams: number };

/** One line of a table. */
export interface Row {
  /** Table, subject, door (with the format behind it where that is another, see `wayOf`) and version of HTTP. */
  readonly id: string;
  readonly table: TableKey;
  readonly subject: SubjectKey;
  readonly door: DoorKey;
  /** How it is called over HTTP/2 where the door is an HTTP/1.1 one: nginx takes both. */
  readonly http: 1 | 2;
  readonly asked: Asked;
  readonly load: Load;
  /** The row that carries the same bytes through a plain reverse proxy. */
  readonly beside: string | undefined;
  /** Whether a quick run has it too. */
  readonly quick: boolean;
}

/** The tables, in their order. */
export const TABLES = {
  unary: `Unary calls, saturated: ${ANSWER_BYTES}-byte answers, 64 calls at once`,
  prompt: "Unary calls with prompts of 16 KB, saturated",
  burst: "Streams of 100 events that arrive at once, 16 streams at once",
  paced: "200 streams at once, an event every 20 ms each: 10,000 events a second",
  rate: "Unary calls at fixed rates, open loop",
} as const;
/** One of the tables. */
export type TableKey = keyof typeof TABLES;

/** Calls a second of the fixed rates. */
const RATES = [300, 500, 1000, "half"] as const;
const GPT = "gpt" as const;
const CLAUDE = "claude" as const;
const GEMINI = "gemini" as const;

/** All rows. */
export const ROWS: readonly Row[] = [
  ...saturated("unary", { answer: "unary", promptBytes: 600, family: GPT }, [
    ["direct", "openai", 1, undefined, true],
    ["nginx", "openai", 1, undefined, true],
    ["nginx", "openai", 2, undefined, true],
    ["bare", "openai", 1, "unary/nginx/openai/h1", false],
    ["bare", "grpc", 2, "unary/nginx/openai/h2", false],
    ["envoy", "openai", 1, "unary/nginx/openai/h1", true],
    ["outrigger", "openai", 1, "unary/nginx/openai/h1", true],
    ["outrigger", "grpc", 2, "unary/nginx/openai/h2", true],
    ["outrigger", "connect-json", 1, "unary/nginx/openai/h1", true],
    ["outrigger", "connect-proto", 1, "unary/nginx/openai/h1", false],
    ["outrigger", "grpc-web", 1, "unary/nginx/openai/h1", false],
    ["connect-node", "grpc", 2, "unary/nginx/openai/h2", true],
    ["connect-node", "connect-json", 1, "unary/nginx/openai/h1", false],
    ["connect-node", "connect-proto", 1, "unary/nginx/openai/h1", false],
    ["portkey", "openai", 1, "unary/nginx/openai/h1", true],
    ["litellm", "openai", 1, "unary/nginx/openai/h1", true],
  ]),
  ...saturated("unary", { answer: "unary", promptBytes: 600, family: CLAUDE }, [
    ["nginx", "anthropic", 1, undefined, false],
    ["outrigger", "anthropic", 1, "unary/nginx/anthropic/h1", false],
    ["outrigger", "openai", 1, "unary/nginx/openai/h1", false],
    ["outrigger", "grpc", 2, "unary/nginx/openai/h2", false],
  ]),
  ...saturated("unary", { answer: "unary", promptBytes: 600, family: GEMINI }, [
    ["outrigger", "openai", 1, "unary/nginx/openai/h1", false],
    ["outrigger", "grpc", 2, "unary/nginx/openai/h2", false],
  ]),
  ...saturated("prompt", { answer: "unary", promptBytes: 16_000, family: GPT }, [
    ["nginx", "openai", 1, undefined, false],
    ["nginx", "openai", 2, undefined, false],
    ["outrigger", "openai", 1, "prompt/nginx/openai/h1", false],
    ["outrigger", "grpc", 2, "prompt/nginx/openai/h2", false],
    ["connect-node", "grpc", 2, "prompt/nginx/openai/h2", false],
  ]),
  ...saturated("burst", { answer: "burst", promptBytes: 600, family: GPT }, [
    ["nginx", "openai", 1, undefined, true],
    ["nginx", "openai", 2, undefined, true],
    ["envoy", "openai", 1, "burst/nginx/openai/h1", true],
    ["outrigger", "openai", 1, "burst/nginx/openai/h1", true],
    ["outrigger", "grpc", 2, "burst/nginx/openai/h2", true],
    ["outrigger", "grpc-web", 1, "burst/nginx/openai/h1", false],
    ["outrigger", "connect-json", 1, "burst/nginx/openai/h1", false],
    ["outrigger", "anthropic", 1, "burst/nginx/anthropic/h1", false],
    ["connect-node", "grpc", 2, "burst/nginx/openai/h2", true],
    ["portkey", "openai", 1, "burst/nginx/openai/h1", true],
    ["litellm", "openai", 1, "burst/nginx/openai/h1", true],
  ]),
  ...saturated("burst", { answer: "burst", promptBytes: 600, family: CLAUDE }, [
    ["nginx", "anthropic", 1, undefined, false],
    ["outrigger", "anthropic", 1, "burst/nginx/anthropic/h1", false],
    ["outrigger", "openai", 1, "burst/nginx/openai/h1", false],
    ["outrigger", "grpc", 2, "burst/nginx/openai/h2", false],
  ]),
  ...saturated("burst", { answer: "burst", promptBytes: 600, family: GEMINI }, [
    // Of all translations the one that costs most, and so the one that a first look has too.
    ["outrigger", "openai", 1, "burst/nginx/openai/h1", true],
    ["outrigger", "grpc", 2, "burst/nginx/openai/h2", false],
  ]),
  ...paced({ answer: 20, promptBytes: 600, family: GPT }, true, [
    ["direct", "openai", 1, undefined],
    ["nginx", "openai", 1, undefined],
    ["nginx", "openai", 2, undefined],
    ["bare", "openai", 1, "paced/nginx/openai/h1"],
    ["bare", "grpc", 2, "paced/nginx/openai/h2"],
    ["envoy", "openai", 1, "paced/nginx/openai/h1"],
    ["outrigger", "openai", 1, "paced/nginx/openai/h1"],
    ["outrigger", "grpc", 2, "paced/nginx/openai/h2"],
  ]),
  ...paced({ answer: 20, promptBytes: 600, family: CLAUDE }, false, [
    ["nginx", "anthropic", 1, undefined],
    ["outrigger", "anthropic", 1, "paced/nginx/anthropic/h1"],
  ]),
  ...RATES.flatMap((ratePerS) => [
    // A direct call has no saturation of its own to take half of.
    ...(ratePerS === "half" ? [] : [rated(ratePerS, "direct", "openai", 1, undefined)]),
    rated(ratePerS, "nginx", "openai", 1, undefined),
    rated(ratePerS, "nginx", "openai", 2, undefined),
    ...(ratePerS === 300 || ratePerS === 1000
      ? [
          rated(ratePerS, "bare", "openai", 1, `rate-${ratePerS}/nginx/openai/h1`),
          rated(ratePerS, "bare", "grpc", 2, `rate-${ratePerS}/nginx/openai/h2`),
        ]
      : []),
    rated(ratePerS, "envoy", "openai", 1, `rate-${ratePerS}/nginx/openai/h1`),
    rated(ratePerS, "outrigger", "openai", 1, `rate-${ratePerS}/nginx/openai/h1`),
    rated(ratePerS, "outrigger", "grpc", 2, `rate-${ratePerS}/nginx/openai/h2`),
    ...(ratePerS === 300
      ? [
          rated(ratePerS, "connect-node", "grpc", 2, `rate-${ratePerS}/nginx/openai/h2`),
          rated(ratePerS, "portkey", "openai", 1, `rate-${ratePerS}/nginx/openai/h1`),
        ]
      : []),
  ]),
];

/** All rows, and before each of the sidecar's the same for the sidecar of another checkout: a noisy second then disturbs both. */
export function rowsWithBefore(): Row[] {
  return ROWS.flatMap((row) => {
    if (row.subject !== "outrigger") return [row];
    const of = (text: string) => text.replace("/outrigger/", "/before/");
    const load = row.load.kind === "rate" ? { ...row.load, of: of(row.load.of) } : row.load;
    return [{ ...row, id: of(row.id), subject: "before", load }, row];
  });
}

type Line = readonly [SubjectKey, DoorKey, 1 | 2, string | undefined, boolean];

function saturated(table: TableKey, asked: Asked, lines: readonly Line[]): Row[] {
  const total = asked.answer === "unary" ? 64 : 16;
  return lines.map(([subject, door, http, beside, quick]) => ({
    id: `${table}/${subject}/${wayOf(door, asked.family)}/h${http}`,
    table,
    subject,
    door,
    http,
    asked,
    // gRPC clients share few connections among many calls; HTTP/1.1 has one for each.
    load: { kind: "saturated", connections: http === 2 ? 4 : total, streams: http === 2 ? total / 4 : 1 },
    beside,
    quick,
  }));
}

function paced(asked: Asked, quick: boolean, lines: readonly (readonly [SubjectKey, DoorKey, 1 | 2, string | undefined])[]): Row[] {
  return lines.map(([subject, door, http, beside]) => ({
    id: `paced/${subject}/${wayOf(door, asked.family)}/h${http}`,
    table: "paced",
    subject,
    door,
    http,
    asked,
    load: { kind: "paced", connections: http === 2 ? 10 : 200, streams: http === 2 ? 20 : 1 },
    beside,
    quick: quick && subject !== "bare",
  }));
}

function rated(ratePerS: number | "half", subject: SubjectKey, door: DoorKey, http: 1 | 2, beside: string | undefined): Row {
  return {
    id: `rate-${ratePerS}/${subject}/${door}/h${http}`,
    table: "rate",
    subject,
    door,
    http,
    asked: { answer: "unary", promptBytes: 600, family: GPT },
    load: { kind: "rate", ratePerS, of: `unary/${subject}/${door}/h${http}` },
    beside,
    quick: ratePerS === 1000 && subject !== "bare",
  };
}
