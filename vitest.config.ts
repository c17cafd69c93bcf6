import { defineConfig } from "vitest/config";

// Tests stand beside the file they are about, or in test/ if they span files. Long suites end in .long.test.ts and run on demand.
export default defineConfig({
  test: {
    include: ["proto/**/*.test.ts", "sidecar/**/*.test.ts", "control/**/*.test.ts", "test/**/*.test.ts"],
    exclude: ["**/node_modules/**", ...(process.env.OUTRIGGER_LONG ? [] : ["**/*.long.test.ts"])],
    // Tests over recordings are found by the recording's name, which must not be cut.
    taskTitleValueFormatTruncate: 0,
    setupFiles: ["test/kit/seed.ts"],
    testTimeout: 30_000,
    // A hook that opens hundreds of connections takes its time where the machine is busy; it is no measure of anything.
    hookTimeout: 60_000,
    // Two cores are what CI has; more workers than cores make tests on sockets slower, not faster.
    maxWorkers: 2,
  },
});
