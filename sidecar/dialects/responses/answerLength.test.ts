/** The last event repeats the whole answer, so what is kept of an answer has an end, whichever way it went out. */
import { expect, test } from "vitest";
import { event, startEvent, textEvent } from "../../../proto/chat.ts";
import { type Fault, FaultReason } from "../../../proto/fault.ts";
import { answerCharsMax, ItemWriter } from "./itemWriter.ts";
import { PassedEvents } from "./passedEvents.ts";

const half = "x".repeat(answerCharsMax / 2);

function reasonOf(act: () => void): FaultReason | undefined {
  try {
    act();
    return undefined;
  } catch (caught) {
    return (caught as Fault).reason;
  }
}

test("an answer that is written stops where no more of it is kept", () => {
  const items = new ItemWriter("1");
  expect(reasonOf(() => items.take(textEvent(0, half)))).toBeUndefined();
  expect(reasonOf(() => items.take(textEvent(0, half)))).toBeUndefined();
  expect(reasonOf(() => items.take(textEvent(0, "x")))).toBe(FaultReason.PROVIDER_ANSWER_INVALID);
});

test("so does one that is passed on", () => {
  const passed = new PassedEvents();
  const bytes = new Uint8Array(0);
  expect(reasonOf(() => passed.pass(bytes, [textEvent(0, half), textEvent(0, half)]))).toBeUndefined();
  expect(reasonOf(() => passed.pass(bytes, [textEvent(0, "x")]))).toBe(FaultReason.PROVIDER_ANSWER_INVALID);
});

test("what was passed on is kept as text, however many pieces it came in", () => {
  const passed = new PassedEvents();
  const added = Buffer.from(
    'event: response.output_item.added\ndata: {"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"type":"message","id":"msg_1","role":"assistant","content":[]}}\n\n',
  );
  passed.pass(added, [startEvent("resp_1", "m", 0, "route", "provider")]);
  for (let i = 0; i < 1000; i++)
    passed.pass(new Uint8Array(0), [textEvent(0, "ab"), event("heartbeat", { $typeName: "outrigger.chat.v1.Heartbeat" })]);
  const [open] = passed.items().open;
  expect(open).toMatchObject({ kind: "message", id: "msg_1", parts: [{ type: "output_text", text: "ab".repeat(1000) }] });
});
