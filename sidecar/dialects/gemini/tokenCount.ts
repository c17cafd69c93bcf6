/**
 * Counting tokens (https://ai.google.dev/api/tokens). AI Studio takes the whole request for an answer as a member of the question; in a
 * project what becomes input stands in it by itself (https://cloud.google.com/vertex-ai/docs/reference/rest).
 */
import { RawJson, stringify } from "../../framing/json.ts";
import type { AnswerInput, TokenCountHalf, WrittenRequest } from "../dialect.ts";
import { bodyOf, readTokenCount } from "../tokenCount.ts";
import type { GeminiOptions } from "./writeRequest.ts";

/** Makes the part of the client half that counts at one endpoint. */
export function tokenCounting({ project }: GeminiOptions): TokenCountHalf {
  return Object.freeze({
    ask(written: WrittenRequest, model: string): WrittenRequest {
      const path = written.path.replace(/:generateContent$/, ":countTokens");
      const counted = bodyOf(written, project === undefined ? wholeMembers : inputMembers);
      if (project !== undefined) return { ...written, path, body: counted };
      const name = JSON.stringify(model.includes("/") ? model : `models/${model}`);
      const named = counted === "{}" ? `{"model":${name}}` : `{"model":${name},${counted.slice(1)}`;
      return { ...written, path, body: stringify({ generateContentRequest: new RawJson(named) }) };
    },
    readAnswer: (input: AnswerInput) => readTokenCount(input, "totalTokens"),
  });
}

const inputMembers: ReadonlySet<string> = new Set(["contents", "systemInstruction", "tools"]);
const wholeMembers: ReadonlySet<string> = new Set([...inputMembers, "toolConfig", "generationConfig", "cachedContent"]);
