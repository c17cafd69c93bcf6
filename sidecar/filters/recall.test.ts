import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Batch, Collector, endEvent, finishEvent, reasoningEvent, startEvent, textEvent, toolCallEvent } from "../../proto/chat.ts";
import {
  type ChatRequest,
  ExtraSchema,
  FinishReason,
  type Message,
  MessageSchema,
  type Part,
  Role,
} from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { ChatEvent } from "../../proto/gen/outrigger/chat/v1/events_pb.ts";
import { answerOf, chatRequest, makeCall } from "../../test/kit/call.ts";
import { collectedHeapBytes } from "../../test/kit/heap.ts";
import { type Call, type CallConsumer, type CallTarget, type ChatCall, isChat } from "../call.ts";
import { SealedTurns } from "../sealedTurns.ts";
import { recall } from "./recall.ts";

const app: CallConsumer = { namespace: "default", name: "app", team: "", routes: new Set() };
const maker: CallTarget = {
  route: "r",
  provider: "p",
  model: "m",
  dropUnsupported: false,
  send: () => answerOf(),
  seals: { dialect: "sealing", always: true, portable: false },
};
const plain: CallTarget = { ...maker, provider: "q", seals: undefined };

/** The filter with a store of its own, and what goes through it. */
function house() {
  const kept = new SealedTurns({ bytesMax: 1e6, turnsMax: 1000, idleMs: 1e6 }, { monotonicMs: () => 0 });
  const filter = recall(kept, (text) => createHash("sha256").update(text).digest("hex"));
  /** What is sent of a call; the answer is heard by whoever watches. */
  function send(messages: readonly Message[], changes: Partial<Call> = {}, answer: readonly (readonly ChatEvent[])[] = []): ChatCall {
    const sent: Call[] = [];
    const call = makeCall({ consumer: app, target: maker, request: chatRequest({ messages: [...messages] }), ...changes });
    filter(call, (next) => {
      sent.push(next);
      return answerOf();
    });
    const [one] = sent;
    if (one === undefined || !isChat(one)) throw new Error("nothing was sent");
    for (const batch of answer) one.watch?.(batch as Batch);
    return one;
  }
  return { kept, send };
}

const start = startEvent("id", "m", 0, "r", "p");
const over = [finishEvent(0, FinishReason.STOP, "stop"), endEvent()];

function sealed(signature: string, text = "", choice = 0, block = 0): ChatEvent {
  return reasoningEvent(choice, block, text, { signature, dialect: "sealing" });
}

function user(text: string): Message {
  return create(MessageSchema, { role: Role.USER, parts: [{ content: { case: "text", value: { text } } }] });
}

function assistant(text: string, calls: readonly string[] = [], name = "look"): Message {
  const parts = calls.map((id) => ({ content: { case: "toolCall" as const, value: { id, name, argumentsJson: '{"at":1}' } } }));
  const words = text === "" ? [] : [{ content: { case: "text" as const, value: { text } } }];
  return create(MessageSchema, { role: Role.ASSISTANT, parts: [...words, ...parts] });
}

function result(id: string, text = "found"): Message {
  const value = { toolCallId: id, parts: [{ content: { case: "text" as const, value: { text } } }] };
  return create(MessageSchema, { role: Role.TOOL, parts: [{ content: { case: "toolResult", value } }] });
}

/** A message's parts in short. */
function shown(message: Message | undefined): string[] {
  return (message?.parts ?? []).map(({ content }) => {
    if (content.case === "reasoning") return `thought ${content.value.text}/${content.value.signature}/${content.value.dialect}`;
    if (content.case === "text") return `text ${content.value.text}`;
    return content.case === "toolCall" ? `call ${content.value.id}` : String(content.case);
  });
}

/** A turn with thinking and a call, which `c1` names. */
const callingTurn = [[start, sealed("S", "hm ")], [sealed("IG", "well")], [toolCallEvent(0, 0, "c1", "look", "{}")], over];
const asked = [user("look")];
const answered = [...asked, assistant("", ["c1"]), result("c1")];

describe("sealed thinking goes back", () => {
  it("with the turn that calls the same tools, joined from its pieces", () => {
    const { send } = house();
    send(asked, {}, callingTurn);
    const sent = send(answered);
    expect(shown(sent.request.messages[1])).toEqual(["thought hm well/SIG/sealing", "call c1"]);
    expect(sent.warnings).toEqual([]);
  });

  it("though the client shortened the conversation, changed its instructions and wrote the arguments anew", () => {
    const { send } = house();
    send([user("one"), assistant("two"), user("look")], {}, callingTurn);
    const system = create(MessageSchema, { role: Role.SYSTEM, parts: [{ content: { case: "text", value: { text: "It is noon." } } }] });
    const sent = send([system, ...answered]);
    expect(shown(sent.request.messages[2])).toEqual(["thought hm well/SIG/sealing", "call c1"]);
  });

  it("into its place among texts and calls that the client joined", () => {
    const { send } = house();
    const events = [
      sealed("one", "a", 0, 0),
      textEvent(0, "first "),
      sealed("two", "b", 0, 1),
      textEvent(0, "second"),
      toolCallEvent(0, 0, "c1", "look", "{}"),
      sealed("three", "c", 0, 2),
      toolCallEvent(0, 1, "c2", "look", "{}"),
      sealed("four", "d", 0, 3),
    ];
    send(asked, {}, [[start, ...events, ...over]]);
    const sent = send([...asked, assistant("first second", ["c1", "c2"]), result("c1"), result("c2")]);
    expect(shown(sent.request.messages[1])).toEqual([
      "thought a/one/sealing",
      "text first ",
      "thought b/two/sealing",
      "text second",
      "call c1",
      "thought c/three/sealing",
      "call c2",
      "thought d/four/sealing",
    ]);
  });

  it("with turns without calls, where the whole conversation before them is the same but for instructions", () => {
    const { send } = house();
    send(asked, {}, [[start, sealed("S"), textEvent(0, "A "), textEvent(0, "door."), ...over]]);
    expect(shown(send([...asked, assistant("A door."), user("And?")]).request.messages[1])).toEqual(["thought /S/sealing", "text A door."]);
    expect(shown(send([user("Look!"), assistant("A door."), user("And?")]).request.messages[1])).toEqual(["text A door."]);
    expect(shown(send([...asked, assistant("A window."), user("And?")]).request.messages[1])).toEqual(["text A window."]);
  });

  it("to the right one of several turns with the same ids", () => {
    const { send } = house();
    let history = [user("go")];
    const turn = (text: string, signature: string): Message[] => {
      send(history, {}, [[start, sealed(signature), textEvent(0, text), toolCallEvent(0, 0, "call_0", "look", "{}"), ...over]]);
      history = [...history, assistant(text, ["call_0"]), result("call_0", `after ${text}`)];
      return history;
    };
    turn("one", "S1");
    turn("two", "S2");
    turn("six", "S3");
    const sent = send(history);
    expect([1, 3, 5].map((at) => shown(sent.request.messages[at])[0])).toEqual([
      "thought /S1/sealing",
      "thought /S2/sealing",
      "thought /S3/sealing",
    ]);
    // Another conversation of the same application has the same ids, too, and nothing to do with this one.
    expect(shown(send([user("other"), assistant("one", ["call_0"]), result("call_0")]).request.messages[1])).toEqual([
      "text one",
      "call call_0",
    ]);
  });

  it("to each of several choices its own", () => {
    const { send } = house();
    const events = [
      sealed("S0", "", 0),
      sealed("S1", "", 1),
      toolCallEvent(0, 0, "c0", "look", "{}"),
      toolCallEvent(1, 0, "c1", "look", "{}"),
    ];
    send(asked, {}, [[start, ...events, ...over]]);
    expect(shown(send([...asked, assistant("", ["c1"]), result("c1")]).request.messages[1])[0]).toBe("thought /S1/sealing");
    expect(shown(send([...asked, assistant("", ["c0"]), result("c0")]).request.messages[1])[0]).toBe("thought /S0/sealing");
  });

  it("in the place of thinking that came back without its seal, or out of its place", () => {
    const { send } = house();
    send(asked, {}, [[start, textEvent(0, "So. "), sealed("S", "hm"), toolCallEvent(0, 0, "c1", "look", "{}"), ...over]]);
    for (const signature of ["", "S"]) {
      const [call] = assistant("", ["c1"]).parts;
      const value = { text: "hm", signature, dialect: signature === "" ? "other" : "sealing" };
      const message = create(MessageSchema, {
        role: Role.ASSISTANT,
        parts: [{ content: { case: "reasoning", value } }, { content: { case: "text", value: { text: "So. " } } }, call as Part],
      });
      expect(shown(send([...asked, message, result("c1")]).request.messages[1])).toEqual(["text So. ", "thought hm/S/sealing", "call c1"]);
    }
  });

  it("only with requests that ask the model to think, where the target wants it so", () => {
    const { send } = house();
    const target: CallTarget = { ...maker, seals: { dialect: "sealing", always: false, portable: false } };
    send(asked, { target }, callingTurn);
    const request = (effort?: string): ChatRequest =>
      chatRequest({ messages: answered, ...(effort === undefined ? {} : { reasoning: { amount: { case: "effort", value: effort } } }) });
    expect(shown(send([], { target, request: request("low") }).request.messages[1])[0]).toBe("thought hm well/SIG/sealing");
    for (const effort of [undefined, "none"]) {
      const sent = send([], { target, request: request(effort) });
      expect(shown(sent.request.messages[1])).toEqual(["call c1"]);
      expect(sent.warnings).toEqual([]);
    }
  });
});

describe("sealed thinking stays away", () => {
  const others: Readonly<Record<string, CallTarget>> = {
    "another model": { ...maker, model: "n" },
    "another provider": { ...maker, provider: "q" },
    "another dialect": { ...maker, seals: { dialect: "other", always: true, portable: true } },
    "a provider that seals nothing": plain,
  };
  it.each(Object.keys(others))("from %s, and the caller is told", (name) => {
    const { send } = house();
    send(asked, {}, callingTurn);
    const sent = send(answered, others[name] === undefined ? {} : { target: others[name] });
    expect(shown(sent.request.messages[1])).toEqual(["call c1"]);
    expect(sent.warnings).toMatchObject([{ code: "PARAMETER_DROPPED", field: "messages[1].reasoning" }]);
    // And it is still there when the route goes back.
    expect(shown(send(answered).request.messages[1])[0]).toBe("thought hm well/SIG/sealing");
  });

  it("not from another provider where its seals travel", () => {
    const { send } = house();
    const target: CallTarget = { ...maker, seals: { dialect: "sealing", always: true, portable: true } };
    send(asked, { target }, callingTurn);
    expect(shown(send(answered, { target: { ...target, provider: "q" } }).request.messages[1])[0]).toBe("thought hm well/SIG/sealing");
  });

  it("from another model though the caller gives it back: its seal is taken off", () => {
    const { send } = house();
    send(asked, {}, callingTurn);
    const collector = new Collector();
    for (const batch of callingTurn) collector.add(batch);
    const message = collector.response.choices[0]?.message;
    if (message === undefined) throw new Error("there is no message");
    const native = { dialect: "sealing", text: "{}" };
    const messages = [...asked, message, result("c1")];
    const sent = send(messages, { target: { ...maker, model: "n" }, native });
    expect(shown(sent.request.messages[1])).toEqual(["thought hm well//", "call c1"]);
    expect(sent.native).toBeUndefined();
    // To the model that made it, the caller's own words go out as they came.
    expect(send(messages, { native }).native).toBe(native);
  });

  it("from every other consumer", () => {
    const { send } = house();
    send(asked, {}, callingTurn);
    send(asked, {}, [[start, sealed("S"), textEvent(0, "A door."), ...over]]);
    for (const consumer of [
      { ...app, name: "other" },
      { ...app, namespace: "other" },
    ]) {
      expect(shown(send(answered, { consumer }).request.messages[1])).toEqual(["call c1"]);
      const talk = send([...asked, assistant("A door."), user("And?")], { consumer });
      expect(shown(talk.request.messages[1])).toEqual(["text A door."]);
      expect(talk.warnings).toEqual([]);
    }
  });

  it("from callers who speak the target's own language, and keep it or leave it out themselves", () => {
    const { send } = house();
    send(asked, {}, callingTurn);
    const native = { dialect: "sealing", text: "{}" };
    const sent = send(answered, { native });
    expect(sent.native).toBe(native);
    expect(shown(sent.request.messages[1])).toEqual(["call c1"]);
  });

  it("if a caller brings a foreign seal in the target's own language: then its text does not go out as it came", () => {
    const { send } = house();
    const native = { dialect: "sealing", text: "{}" };
    const value = { text: "", signature: "x", dialect: "other" };
    const message = create(MessageSchema, { role: Role.ASSISTANT, parts: [{ content: { case: "reasoning", value } }] });
    expect(send([...asked, message, user("And?")], { native }).native).toBeUndefined();
    expect(send([...asked, assistant("yes"), user("And?")], { native }).native).toBe(native);
  });

  it("if its answer was never complete, or too long to be kept", () => {
    const { kept, send } = house();
    send(asked, {}, callingTurn.slice(0, -1));
    expect(shown(send(answered).request.messages[1])).toEqual(["call c1"]);
    const long = Array.from({ length: 11 }, () => [sealed("", "t".repeat(100_000))]);
    send(asked, {}, [...long, ...callingTurn]);
    expect(shown(send(answered).request.messages[1])).toEqual(["call c1"]);
    expect(kept.counts()).toMatchObject({ turns: 0, bytes: 0 });
  });
});

it("a conversation too long to hash has no places, and its calls are found all the same", () => {
  const { send } = house();
  const long = [user("x".repeat(1024 * 1024 + 1))];
  send(long, {}, callingTurn);
  expect(shown(send([...long, assistant("", ["c1"]), result("c1")]).request.messages[1])[0]).toBe("thought hm well/SIG/sealing");
  send(long, {}, [[start, sealed("S"), textEvent(0, "A door."), ...over]]);
  expect(shown(send([...long, assistant("A door."), user("And?")]).request.messages[1])).toEqual(["text A door."]);
});

// A text that was joined from the pieces of a stream held on to every piece, and took several times what it was counted with.
it("what is kept takes no more room than it is counted with", () => {
  const { kept, send } = house();
  const before = collectedHeapBytes();
  for (let turn = 0; turn < 20; turn++) {
    // Pieces as they come: each a string of its own.
    const pieces = Array.from({ length: 10_000 }, (_, at) => sealed("", JSON.parse(`"t${at % 1000}"`)));
    send(asked, {}, [[start, ...pieces, sealed(`S${turn}`), toolCallEvent(0, 0, `c${turn}`, "look", "{}")], over]);
  }
  expect(kept.counts().turns).toBeGreaterThan(10);
  expect(collectedHeapBytes() - before).toBeLessThan(1.2 * kept.counts().bytes + 200_000);
});

it("members that only one dialect knows follow the parts that they belong to", () => {
  const { send } = house();
  send(asked, {}, callingTurn);
  const paths = ["messages[1].parts[0].x", "messages[2].parts[0].x", "messages[1].parts[1]", "messages[1].x", "y"];
  const extras = paths.map((path) => create(ExtraSchema, { dialect: "d", path, json: "1" }));
  const { request } = send([], { request: chatRequest({ messages: answered, extras }) });
  expect(request.extras.map(({ path }) => path)).toEqual(["messages[1].parts[1].x", ...paths.slice(1)]);
});

it("nothing is done where nothing is kept and nothing can be", () => {
  const { send } = house();
  const call = makeCall({ consumer: app, target: plain });
  const seen: Call[] = [];
  const kept = new SealedTurns({ bytesMax: 1, turnsMax: 1, idleMs: 1 }, { monotonicMs: () => 0 });
  const unasked = (): string => {
    throw new Error("something was hashed");
  };
  recall(kept, unasked)(call, (next) => {
    seen.push(next);
    return answerOf();
  });
  expect(seen[0]).toBe(call);
  expect(send([user("x")], { validateOnly: true }).watch).toBeUndefined();
});

/** Random conversations of turns with text, thinking and calls in any order, whose ids may be the same in every turn. */
const piece = fc.oneof(
  fc.record({ kind: fc.constant("text" as const), text: fc.string({ minLength: 1, unit: "grapheme" }) }),
  fc.record({ kind: fc.constant("thought" as const), text: fc.string(), signature: fc.string() }),
  fc.record({ kind: fc.constant("call" as const), id: fc.constantFrom("a", "b", "c") }),
);
const conversation = fc.array(fc.record({ said: fc.string(), pieces: fc.array(piece, { minLength: 1, maxLength: 6 }) }), {
  minLength: 1,
  maxLength: 5,
});

it("what is visible is sent as it came, whatever was kept: only sealed thinking is added, and all of it to whoever made it", () => {
  fc.assert(
    fc.property(conversation, fc.boolean(), (turns, same) => {
      const { send } = house();
      const history: Message[] = [];
      const made: string[][] = [];
      for (const { said, pieces } of turns) {
        history.push(user(said));
        let index = 0;
        const events = pieces.map((one, at) => {
          if (one.kind === "text") return textEvent(0, one.text);
          if (one.kind === "thought") return reasoningEvent(0, at, one.text, { signature: one.signature, dialect: "sealing" });
          return toolCallEvent(0, index++, one.id, "look", "{}");
        });
        send(history, {}, [[start, ...events, ...over]]);
        made.push(pieces.flatMap((one) => (one.kind === "thought" && one.signature !== "" ? [`${one.text}/${one.signature}`] : [])));
        // A client that knows nothing of thinking: one text, then the calls.
        const text = pieces.map((one) => (one.kind === "text" ? one.text : "")).join("");
        const calls = pieces.flatMap((one) => (one.kind === "call" ? [one.id] : []));
        history.push(assistant(text, calls), ...calls.map((id) => result(id)));
      }
      history.push(user("end"));
      const before = structuredClone(history);
      const { request, warnings } = send(history, same ? {} : { target: plain });
      expect(history).toEqual(before);
      expect(request.messages.map(visibleOf)).toEqual(history.map(visibleOf));
      const thoughts = request.messages.filter(({ role }) => role === Role.ASSISTANT).map(thoughtsOf);
      expect(thoughts).toEqual(same ? made : made.map(() => []));
      expect(warnings.length).toBe(!same && made.some((blocks) => blocks.length > 0) ? 1 : 0);
    }),
  );
});

/** What a reader sees of a message: its words joined, and everything else that is no thinking. */
function visibleOf({ role, name, parts }: Message): unknown {
  const words = parts.map(({ content }) => (content.case === "text" ? content.value.text : "")).join("");
  return [role, name, words, parts.filter(({ content }) => content.case !== "text" && content.case !== "reasoning")];
}

function thoughtsOf({ parts }: Message): string[] {
  return parts.flatMap(({ content }) => (content.case === "reasoning" ? [`${content.value.text}/${content.value.signature}`] : []));
}
