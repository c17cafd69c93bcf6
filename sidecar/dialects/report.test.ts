import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { Fault } from "../../proto/fault.ts";
import { MessageSchema, Role } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { isHint, Report } from "./report.ts";

/** What was left out, or the field that the request was refused for. */
function said(act: (report: Report) => void, dropUnsupported = false): readonly string[] | string {
  const report = new Report("m-1", dropUnsupported);
  try {
    act(report);
  } catch (caught) {
    if (!(caught instanceof Fault)) throw caught;
    return `refused: ${caught.field}`;
  }
  return report.warnings.map(({ code, field }) => `${code} ${field}`);
}

describe("what cannot be carried", () => {
  test("is refused, or left out where policy says so", () => {
    expect(said((report) => report.unsupported("n"))).toBe("refused: n");
    expect(said((report) => report.unsupported("n"), true)).toEqual(["PARAMETER_DROPPED n"]);
  });

  test.each([
    "user",
    "metadata",
    "metadata.user_id",
    "stream_options.include_obfuscation",
    "messages[3].annotations",
    "messages[3].annotations[0].url_citation",
    "messages[12].reasoning_details",
    "messages[0].tool_calls[2].index",
  ])("binds nobody if it is a hint: %s", (field) => {
    expect(isHint(field)).toBe(true);
    expect(said((report) => report.unsupported(field))).toEqual([`PARAMETER_DROPPED ${field}`]);
  });

  test("is refused where more hangs on it than on other things of the name", () => {
    expect(said((report) => report.denied("store"))).toBe("refused: store");
    expect(said((report) => report.denied("store"), true)).toEqual(["PARAMETER_DROPPED store"]);
  });

  test.each([
    "",
    "users",
    "reasoning",
    "annotations",
    "tools[0].metadata",
    "messages[0].name",
    "messages[0].parts[0].reasoning",
    "store_at",
    "constructor",
  ])("is not taken for a hint: %s", (field) => expect(isHint(field)).toBe(false));
});

// OpenAI's older examples name the tool in its message, and clients do so still.
test("a tool's name is said by its call, and anybody else's is not", () => {
  const message = (role: Role, name: string) => create(MessageSchema, { role, name });
  expect(said((report) => report.speaker(message(Role.TOOL, "get"), "messages[2]"))).toEqual(["PARAMETER_DROPPED messages[2].name"]);
  expect(said((report) => report.speaker(message(Role.USER, "ada"), "messages[2]"))).toBe("refused: messages[2].name");
  expect(said((report) => report.speaker(message(Role.USER, ""), "messages[2]"))).toEqual([]);
});
