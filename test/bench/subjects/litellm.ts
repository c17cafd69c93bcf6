/** LiteLLM's proxy as its page on production advises: one worker for each core, no debug output, the key of callers checked in memory. */
import { CALLER_KEY, PROVIDER_KEY } from "../payloads.ts";

/** The configuration, as JSON, which is YAML too: every model name goes to the provider by its own name. */
export function liteLlmConfig(providerPort: number): string {
  const params = { model: "openai/*", api_base: `http://127.0.0.1:${providerPort}/v1`, api_key: PROVIDER_KEY };
  return JSON.stringify({
    model_list: [{ model_name: "*", litellm_params: params }],
    general_settings: { master_key: CALLER_KEY },
    litellm_settings: { request_timeout: 600, set_verbose: false, json_logs: true, num_retries: 0 },
  });
}
