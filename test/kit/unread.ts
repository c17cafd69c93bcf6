/** What the table of recordings is made from, beside the recordings: the tests that ran, and the grammars that none is about. */
import type { TestModule } from "vitest/node";
import type { RecordedTest } from "./recordingTable.ts";

/** Why no test is about the cases of a grammar, by its name. Whoever reads one takes its line out. */
export const unread: Readonly<Record<string, string>> = {};

/** The tests of a file, as the table looks at them. */
export function testsOf(module: TestModule): RecordedTest[] {
  return [...module.children.allTests()].map((test) => {
    const names = [test.name];
    for (let group = test.parent; group.type === "suite"; group = group.parent) names.unshift(group.name);
    const result = test.result();
    const state = result.state === "passed" || result.state === "skipped" ? result.state : "failed";
    return { names, state, note: result.state === "skipped" ? (result.note ?? "") : "" };
  });
}
