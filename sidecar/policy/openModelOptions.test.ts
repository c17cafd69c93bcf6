import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  HuggingFaceDialectSchema,
  LlamaDialectSchema,
  LlamaForm,
  OllamaDialectSchema,
  OllamaThinking,
  PromptFormat,
} from "../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import { huggingFaceOptions, llamaOptions, ollamaOptions } from "./openModelOptions.ts";

test("what policy leaves out is left to the server or to the rows", () => {
  expect(ollamaOptions(create(OllamaDialectSchema, { models: [{ pattern: "a*" }] }))).toEqual({
    contextTokens: undefined,
    keepAlive: undefined,
    oneVectorAtOnce: false,
    models: [{ pattern: "a*", thinking: undefined, contextTokens: undefined }],
  });
  expect(
    ollamaOptions(
      create(OllamaDialectSchema, {
        contextTokens: 10n,
        keepAlive: "5m",
        models: [{ pattern: "b", thinking: OllamaThinking.WORDS, contextTokens: 20n }],
      }),
    ),
  ).toEqual({
    contextTokens: 10,
    keepAlive: "5m",
    oneVectorAtOnce: false,
    models: [{ pattern: "b", thinking: "words", contextTokens: 20 }],
  });
});

test("a prompt format is never guessed", () => {
  expect(huggingFaceOptions(create(HuggingFaceDialectSchema), {})).toBeUndefined();
  expect(llamaOptions(create(LlamaDialectSchema, { form: LlamaForm.INPUTS }))).toBeUndefined();
  expect(llamaOptions(create(LlamaDialectSchema, { promptFormat: PromptFormat.LLAMA2 }))).toBeUndefined();
});

test("where the model's name stands is the row's affair unless policy says so", () => {
  const given = create(HuggingFaceDialectSchema, { promptFormat: PromptFormat.PLAIN });
  expect(huggingFaceOptions(given, { modelInPath: true })?.modelInPath).toBe(true);
  expect(huggingFaceOptions({ ...given, modelInPath: false }, { modelInPath: true })?.modelInPath).toBe(false);
  expect(huggingFaceOptions(given, {})?.modelInPath).toBe(false);
  expect(huggingFaceOptions(given, {})?.defaultMaxTokens).toBe(1024n);
});

test("the word that begins a text is written once: here, or by a server that adds it", () => {
  const of = (form: LlamaForm, beginning?: boolean) =>
    llamaOptions(
      create(LlamaDialectSchema, { form, promptFormat: PromptFormat.LLAMA3, ...(beginning === undefined ? {} : { beginning }) }),
    );
  expect(of(LlamaForm.INPUTS)).toMatchObject({ path: "/generate", prompt: { format: "llama3", beginning: true } });
  expect(of(LlamaForm.GENERATION)).toMatchObject({ path: "/model/{model}/invoke", prompt: { beginning: true } });
  expect(of(LlamaForm.COMPLETION)).toMatchObject({ path: "/completion", prompt: { beginning: false } });
  expect(of(LlamaForm.COMPLETION, true)?.prompt.beginning).toBe(true);
});
