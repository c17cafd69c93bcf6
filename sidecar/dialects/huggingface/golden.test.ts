/** The project's own cases of this dialect, in `test/golden/huggingface`. */
import { goldenClient } from "../../../test/kit/goldenClient.ts";
import { type HuggingFaceOptions, huggingFaceClient } from "./huggingface.ts";

const usual: HuggingFaceOptions = { prompt: { format: "llama3", beginning: false }, defaultMaxTokens: 1024n, modelInPath: false };

goldenClient("huggingface", (options) => huggingFaceClient({ ...usual, ...(options as Partial<HuggingFaceOptions>) }));
