/** The forms in which completion-only servers take a prompt and give text. */
import type { PromptOptions } from "../rawPrompt.ts";

/**
 * `inputs`: `{"inputs","parameters"}` in, `generated_text` out, in a list or in the member `data`; the text can begin with the prompt.
 * `completion`: `{"prompt","n_predict"}` in, `content` out, the server of llama.cpp. `generation`: `{"prompt","max_gen_len"}` in,
 * `generation` out, as clouds host these models.
 */
export type LlamaForm = "inputs" | "completion" | "generation";

/** What is particular to an endpoint that speaks this dialect. */
export interface LlamaOptions {
  readonly form: LlamaForm;
  /** The path below the endpoint, with `{model}` where the model's name stands. */
  readonly path: string;
  /** How the model is told who speaks. */
  readonly prompt: PromptOptions;
  /** The limit on the answer where the caller gives none; undefined leaves it to the server. */
  readonly defaultMaxTokens: bigint | undefined;
}
