/**
 * `npm run recordings`: reads every recorded case in every way that a test reads it, and prints what became of each by provider and kind.
 * Ends with an error if a case failed, or if no test is about it and no reason is given for that.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { TestModule } from "vitest/node";
import { startVitest } from "vitest/node";
import { recordingsAbsent, recordingsFolder } from "./kit/recordings.ts";
import { recordedCases, recordingTable } from "./kit/recordingTable.ts";
import { testsOf, unread } from "./kit/unread.ts";

const root = join(import.meta.dirname, "..");
const folder = recordingsFolder();
if (folder === undefined) {
  console.error(recordingsAbsent);
  process.exit(1);
}

/** The test files that read recordings. */
const files = ["sidecar", "test"].flatMap((place) =>
  readdirSync(join(root, place), { recursive: true, encoding: "utf8" })
    .map((file) => `${place}/${file}`)
    .filter((file) => file.endsWith(".test.ts") && readFileSync(join(root, file), "utf8").includes("kit/recordings.ts")),
);

let modules: readonly TestModule[] = [];
let errors = 0;
const vitest = await startVitest("test", files, {
  root,
  watch: false,
  run: true,
  reporters: [
    {
      onTestRunEnd(ended, unhandled) {
        modules = ended;
        errors = unhandled.length;
      },
      onTestModuleEnd: (module) => console.log(`${module.ok() ? "ok  " : "FAIL"} ${module.relativeModuleId}`),
    },
  ],
});
await vitest.close();
const { text, wrong } = recordingTable(recordedCases(folder), modules.flatMap(testsOf), unread);
console.log(`\n${text}`);
// What is wrong in a file as a whole is about no case, and must not be lost for that.
const broken = modules.filter((module) => !module.ok()).map(({ relativeModuleId }) => `${relativeModuleId}: has failures`);
for (const line of [...wrong, ...broken]) console.error(`wrong: ${line}`);
process.exit(wrong.length + broken.length + errors === 0 ? 0 : 1);
