/**
 * Recorded provider traffic: where it is, and how a case reads. The recordings are not part of this repository, since each has its own
 * source and licence; where they are absent, tests over them say so and the project's own golden cases stand in.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";

/** One recorded exchange with what a correct reader must get out of it. */
export interface Recording {
  /** Folder and case, such as `openai/chat-basic`. */
  readonly name: string;
  /** Which grammar the answer is in, such as `openai.chat`. */
  readonly api: string;
  readonly model: string;
  readonly stream: boolean;
  readonly status: number;
  /** The recorded response headers, as far as they were kept. */
  readonly headers: Readonly<Record<string, string>>;
  /** The request as it was sent, or undefined where the source did not keep it. */
  readonly request: string | undefined;
  /** The answer's bytes as received. */
  readonly answer: Uint8Array;
  readonly expect: RecordedMeaning;
}

/** What a recording means; see the README beside the recordings for each member. */
export interface RecordedMeaning {
  readonly kind: string;
  readonly complete?: boolean;
  readonly stream_error?: { readonly class: string; readonly class_alternatives?: readonly string[] };
  readonly error?: {
    readonly status: number;
    /** The status that stands in the body of an error under a good status. */
    readonly status_in_body?: number;
    readonly class: string;
    readonly class_alternatives?: readonly string[];
    readonly message: string;
    readonly native_type?: string;
    readonly native_code?: string | number | null;
    readonly retry_after?: string;
  };
  readonly [member: string]: unknown;
}

/** The folder of recordings, or undefined where there is none. */
export function recordingsFolder(): string | undefined {
  const folder = resolve(import.meta.dirname, "../..", process.env.OUTRIGGER_RECORDINGS ?? "../shared/fixtures");
  return existsSync(join(folder, "README.md")) ? folder : undefined;
}

/** Why tests over recordings do not run, for the closing lines. */
export const recordingsAbsent = "there are no recordings at ../shared/fixtures (OUTRIGGER_RECORDINGS names another place)";

/** All cases of some providers whose api is one of `apis`, sorted by name; none where there are no recordings. */
export function readRecordings(providers: readonly string[], apis: readonly string[]): Recording[] {
  const folder = recordingsFolder();
  if (folder === undefined) return [];
  const recordings: Recording[] = [];
  for (const provider of providers) {
    for (const name of readdirSync(join(folder, provider)).sort()) {
      const recording = readRecording(join(folder, provider, name), `${provider}/${name}`);
      if (apis.includes(recording.api)) recordings.push(recording);
    }
  }
  return recordings;
}

interface Meta {
  readonly api: string;
  readonly model: string;
  readonly stream: boolean;
  readonly http: { readonly status: number; readonly response_headers?: Readonly<Record<string, string>> };
  readonly files: { readonly request?: string; readonly response: string };
  readonly expect: RecordedMeaning;
}

function readRecording(folder: string, name: string): Recording {
  const meta: Meta = JSON.parse(readFileSync(join(folder, "meta.json"), "utf8"));
  return {
    name,
    api: meta.api,
    model: meta.model,
    stream: meta.stream,
    status: meta.http.status,
    headers: meta.http.response_headers ?? {},
    request: meta.files.request === undefined ? undefined : readFileSync(join(folder, meta.files.request), "utf8"),
    answer: readAnswer(join(folder, meta.files.response)),
    expect: corrected(name, meta.expect),
  };
}

/** A meaning with what was overlooked when it was written down. */
function corrected(name: string, meaning: RecordedMeaning): RecordedMeaning {
  const usage = overlookedUsage[name];
  return usage === undefined ? meaning : { ...meaning, usage: { ...(meaning.usage as object), ...usage } };
}

/** Counts that a recording's own bytes hold and its meaning leaves out, although only what the provider did not say is absent. */
const overlookedUsage: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  // The answer has usage.tokens.reasoning_tokens, as `usage_native` of the same meaning shows.
  "cohere/reasoning": { reasoning_tokens: 38 },
  // These have input_tokens_details.cache_write_tokens, and `usage_native` shows it: none were written, which is not the same as not told.
  "openai/responses-stream-tool": { cache_write_tokens: 0 },
  "azure/v1-responses-stream": { cache_write_tokens: 0 },
  "azure/v1-responses-tool": { cache_write_tokens: 0 },
};

/** The bytes of an answer; those of binary streams are kept as base64. */
function readAnswer(path: string): Uint8Array {
  return path.endsWith(".b64") ? Buffer.from(readFileSync(path, "utf8"), "base64") : readFileSync(path);
}
