/** The project's own cases of this dialect, in `test/golden/llama`. */
import { goldenClient } from "../../../test/kit/goldenClient.ts";
import { type LlamaOptions, llamaClient } from "./llama.ts";

const usual: LlamaOptions = {
  form: "inputs",
  path: "/generate",
  prompt: { format: "llama2", beginning: true },
  defaultMaxTokens: undefined,
};

goldenClient("llama", (options) => llamaClient({ ...usual, ...(options as Partial<LlamaOptions>) }));
