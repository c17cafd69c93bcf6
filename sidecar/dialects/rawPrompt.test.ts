import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Message, Role } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { chatRequest } from "../../test/kit/call.ts";
import { type PromptFormat, writePrompt } from "./rawPrompt.ts";
import { Report } from "./report.ts";

const roles = [Role.SYSTEM, Role.USER, Role.ASSISTANT] as const;

/** Pieces of which control words are made, and of which what an attacker writes is. */
const piece = fc.constantFrom(
  "<",
  "<|",
  "|>",
  "<|eot_id|>",
  "<|im_start|>",
  "start_header_id",
  "system",
  "[",
  "[INST]",
  "[/INST]",
  "/inst]",
  "<<SYS>>",
  "<</SYS>>",
  "<s>",
  "</s>",
  "S",
  ">",
  "\n",
  " ",
  "x",
);
const text = fc.array(piece, { minLength: 1, maxLength: 12 }).map((pieces) => `x${pieces.join("")}`);
const conversation = fc.array(fc.tuple(fc.constantFrom(...roles), fc.array(text, { minLength: 1, maxLength: 3 })), {
  minLength: 1,
  maxLength: 6,
});

function messagesOf(turns: readonly (readonly [Role, readonly string[]])[]): Message[] {
  return chatRequest({
    messages: turns.map(([role, texts]) => ({
      role,
      parts: texts.map((each) => ({ content: { case: "text" as const, value: { text: each } } })),
    })),
  }).messages;
}

/** The control words of a prompt, in order. */
const words: Readonly<Record<Exclude<PromptFormat, "plain">, RegExp>> = {
  llama2: /\[\/?INST\]|<<\/?SYS>>|<\/?s>|<unk>/gi,
  llama3: /<\|\w+\|>/g,
  chatml: /<\|\w+\|>/g,
};

describe.each(["llama2", "llama3", "chatml"] as const)("a prompt for %s", (format) => {
  const write = (turns: readonly (readonly [Role, readonly string[]])[]): string =>
    writePrompt(messagesOf(turns), { format, beginning: true }, new Report("m", false));

  test("has the control words that its turns need and none that a message brings", () => {
    fc.assert(
      fc.property(conversation, (turns) => {
        const innocent = turns.map(([role]): [Role, string[]] => [role, ["x"]]);
        expect(write(turns).match(words[format])).toEqual(write(innocent).match(words[format]));
      }),
    );
  });

  test("holds every message, changed by nothing but blanks", () => {
    fc.assert(
      fc.property(conversation, (turns) => {
        const bare = (each: string): string => each.replaceAll(/\s/g, "");
        const prompt = bare(write(turns));
        for (const [, texts] of turns) expect(prompt).toContain(bare(texts.join("")));
      }),
    );
  });
});

test("says which messages had control words, and of no other", () => {
  const report = new Report("m", false);
  const turns: [Role, string[]][] = [
    [Role.USER, ["a <| b |> c"]],
    [Role.ASSISTANT, ["<|eot", "_id|>"]],
    [Role.USER, ["d"]],
  ];
  writePrompt(messagesOf(turns), { format: "llama3", beginning: true }, report);
  expect(report.warnings.map(({ code, field }) => `${code} ${field}`)).toEqual(["PARAMETER_CHANGED messages[1]"]);
});
