import { create, fromBinary, toBinary, toJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Fault } from "../../../proto/fault.ts";
import { CreateChatCompletionRequestSchema } from "../../../proto/gen/outrigger/chat/v1/chat_completion_service_pb.ts";
import { ChatRequestSchema } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { anyRequest } from "../../../test/kit/anyRequest.ts";
import { chatRequest } from "../../../test/kit/call.ts";
import type { Asked } from "./chatReader.ts";
import { checkedChat, readChat, readMessage } from "./requests.ts";

const schema = CreateChatCompletionRequestSchema;
const asked = create(schema, {
  chat: chatRequest({ temperature: 0, maxOutputTokens: 2n ** 60n, logitBias: { "5": -1.5 }, stop: ["ä"] }),
});

function faultOf(act: () => unknown): Fault {
  try {
    act();
  } catch (caught) {
    if (caught instanceof Fault) return caught;
    throw caught;
  }
  throw new Error("a fault was expected");
}

/** What came of reading: the request, or all that its refusal tells. */
function told(read: () => Asked) {
  try {
    const { chat, validateOnly } = read();
    return { chat, validateOnly };
  } catch (caught) {
    if (!(caught instanceof Fault)) throw caught;
    const { reason, message, field, violations } = caught;
    return { reason, message, field, violations };
  }
}

describe("readMessage", () => {
  test("reads both codecs to the same message", () => {
    expect(readMessage(schema, toBinary(schema, asked), false)).toEqual(asked);
    expect(readMessage(schema, Buffer.from(toJsonString(schema, asked)), true)).toEqual(asked);
    expect(readMessage(schema, Buffer.from(toJsonString(schema, asked, { useProtoFieldName: true })), true)).toEqual(asked);
  });

  test("any bytes and any text are read or refused with a fault, and with nothing else", () => {
    const readable = (bytes: Uint8Array, json: boolean) => {
      try {
        readMessage(schema, bytes, json);
      } catch (caught) {
        expect(caught).toBeInstanceOf(Fault);
      }
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.json(), fc.string(), (bytes, json, text) => {
        readable(bytes, false);
        readable(bytes, true);
        readable(Buffer.from(json), true);
        readable(Buffer.from(`{"chat":${json}}`), true);
        readable(Buffer.from(text), true);
      }),
    );
  });

  test("bytes changed anywhere are read or refused with a fault", () => {
    const sound = toBinary(schema, asked);
    fc.assert(
      fc.property(fc.nat(sound.byteLength - 1), fc.nat(255), (at, byte) => {
        const changed = Uint8Array.from(sound);
        changed[at] = byte;
        let read: unknown;
        try {
          read = readMessage(schema, changed, false);
        } catch (caught) {
          expect(caught).toBeInstanceOf(Fault);
          return;
        }
        expect(read).toEqual(fromBinary(schema, changed, { readUnknownFields: false }));
      }),
      { numRuns: 500 },
    );
  });

  test("the requests of chats are read or refused in the same way", () => {
    fc.assert(
      fc.property(anyRequest, fc.nat(), fc.nat(255), fc.boolean(), (message, at, byte, json) => {
        const bytes = json ? Buffer.from(toJsonString(schema, message)) : Buffer.from(toBinary(schema, message));
        expect(told(() => readChat(bytes, false, json))).toEqual(told(() => readMessage(schema, bytes, json)));
        if (bytes.byteLength > 0) bytes[at % bytes.byteLength] = byte;
        expect(told(() => readChat(bytes, false, json))).toEqual(told(() => readMessage(schema, bytes, json)));
      }),
      { numRuns: 1000 },
    );
  });

  test.each<[string, string, string | undefined]>([
    ["a member twice", '{"chat":{"model":"a","model":"b"}}', undefined],
    ["a member by both its names", '{"chat":{"topP":1,"top_p":1}}', "chat"],
    ["two members of one choice", '{"chat":{"toolChoice":{"mode":1,"tool":"x"}}}', "chat.tool_choice"],
    ["a number as text that is none", '{"chat":{"maxOutputTokens":"many"}}', "chat.max_output_tokens"],
    ["a number too large", '{"chat":{"n":3000000000}}', "chat.n"],
    ["an object for a list", '{"chat":{"messages":{}}}', "chat.messages"],
    ["a list for an object", '{"chat":[]}', "chat"],
    ["an unknown name with anything in it", `{"chat":{"${"x y".repeat(50)}":1}}`, `chat.${JSON.stringify("x y".repeat(22).slice(0, 64))}`],
    ["a wrong value in a map", '{"chat":{"logitBias":{"1":"x"}}}', "chat.logit_bias"],
  ])("%s is refused where it stands", (_, text, field) => {
    const fault = faultOf(() => readMessage(schema, Buffer.from(text), true));
    expect(fault.kind.name).toBe("REQUEST_INVALID");
    expect(fault.field).toBe(field);
  });

  test("a refusal never repeats what the request held", () => {
    const canary = "canary-5f1c";
    const texts = [
      `{"chat":{"model":"${canary}","temperature":"${canary}"}}`,
      `{"chat":{"messages":[{"role":"${canary}"}]}}`,
      `{"chat":"${canary}"}`,
      `{"chat":{"model":"${canary}"`,
    ];
    for (const text of texts) {
      expect(JSON.stringify(faultOf(() => readMessage(schema, Buffer.from(text), true)))).not.toContain(canary);
      expect(faultOf(() => readMessage(schema, Buffer.from(text), true)).message).not.toContain(canary);
    }
  });
});

describe("a request made of very many pieces", () => {
  const many = 1_000_000;
  const messages = new Uint8Array(2 * many);
  for (let index = 0; index < many; index++) messages[2 * index] = (2 << 3) | 2;
  const chat = Buffer.concat([Buffer.of((1 << 3) | 2, 0x80, 0x89, 0x7a), messages]);

  test.each<[string, Uint8Array, boolean]>([
    ["of messages", chat, false],
    ["of fields that nobody knows", Buffer.alloc(2 * many, Buffer.of(15 << 3, 1)), false],
    ["of JSON", Buffer.from(`{"chat":{"messages":[${"{},".repeat(many)}{}]}}`), true],
  ])("%s is refused before anything is made of it", (_, bytes, json) => {
    const before = process.memoryUsage().heapUsed;
    expect(faultOf(() => readMessage(schema, bytes, json)).kind.name).toBe("REQUEST_TOO_LARGE");
    // The objects would be 100 MB and more.
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(50e6);
  });

  test("and one of long texts is not", () => {
    const long = create(schema, { chat: chatRequest({ stop: new Array(60).fill(",{[".repeat(20_000)) }) });
    expect(readMessage(schema, toBinary(schema, long), false)).toEqual(long);
    expect(readMessage(schema, Buffer.from(toJsonString(schema, long)), true)).toEqual(long);
  });
});

describe("checkedChat", () => {
  test("gives back what fits, and refuses the rest with all of its fields", () => {
    const chat = chatRequest();
    expect(checkedChat(chat)).toBe(chat);
    const fault = faultOf(() => checkedChat(create(ChatRequestSchema, { n: 0, topK: -1n })));
    expect(fault.violations.map(({ field }) => field)).toEqual(["chat.model", "chat.messages", "chat.top_k", "chat.n"]);
    expect(fault.message).toBe("chat.model must be 1 to 512 bytes long, and 3 more.");
    expect(faultOf(() => checkedChat(undefined)).message).toBe("chat is required.");
  });
});
