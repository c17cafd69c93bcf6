/** The project's own cases of this dialect, in `test/golden/ollama`. */
import { goldenClient } from "../../../test/kit/goldenClient.ts";
import { type OllamaOptions, ollamaClient } from "./ollama.ts";

const usual: OllamaOptions = { contextTokens: undefined, keepAlive: undefined, models: [] };

goldenClient("ollama", (options) => ollamaClient({ ...usual, ...(options as Partial<OllamaOptions>) }));
