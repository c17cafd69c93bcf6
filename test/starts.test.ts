/** Every program starts under plain Node, without any loader or build, and leaves when it is done. */
import { execFileSync, spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { findSources } from "./kit/sources.ts";

const root = join(import.meta.dirname, "..");

/** How each program is started so that it comes to its end, and what it then has written. */
const programs: Readonly<Record<string, { readonly words: readonly string[]; readonly writes: RegExp }>> = {
  "control/cli/main.ts": { words: ["--version"], writes: /^\d+\.\d+\.\d+\n$/ },
  // These build a control or a sidecar for whoever asks; by themselves they do nothing.
  "control/main.ts": { words: [], writes: /^$/ },
  "sidecar/main.ts": { words: [], writes: /^$/ },
};

test("every program is known here", () => {
  const mains = [...findSources(root).keys()].filter((path) => path.endsWith("/main.ts") && !path.startsWith("test/"));
  expect(mains.toSorted()).toEqual(Object.keys(programs).toSorted());
});

test.each(Object.entries(programs))("%s starts under plain node and leaves in order", (path, { words, writes }) => {
  const ended = spawnSync(process.execPath, [join(root, path), ...words], {
    encoding: "utf8",
    timeout: 20_000,
    env: { PATH: process.env.PATH },
  });
  expect({ status: ended.status, signal: ended.signal, stderr: ended.stderr }).toEqual({ status: 0, signal: null, stderr: "" });
  expect(ended.stdout).toMatch(writes);
});

test("a sidecar that is started and closed leaves nothing that keeps the process, and loads no second HTTP client", () => {
  const script = `
    import { startSidecar } from ${JSON.stringify(join(root, "sidecar/main.ts"))};
    import { sidecarSettings } from ${JSON.stringify(join(root, "sidecar/settings.ts"))};
    const settings = sidecarSettings({ listen: { host: "127.0.0.1", port: 0 }, ops: { host: "127.0.0.1", port: 0 }, logLevel: "silent" });
    const resources = { providers: [], routes: [], consumers: [], priceBooks: [], grants: [] };
    const source = { subscribe: (offer) => (offer({ resources, problems: [], root: "0" }), () => undefined) };
    const sidecar = await startSidecar(settings, source, { version: "0", environment: {} });
    // Before anything here asks for it.
    console.log(process.moduleLoadList.filter((name) => name.includes("deps/undici")).length);
    const response = await fetch("http://127.0.0.1:" + sidecar.port + "/v1/models");
    await response.text();
    await sidecar.close();
    console.log(response.status);
  `;
  const ended = spawnSync(process.execPath, ["--input-type=module", "--eval", script], { encoding: "utf8", timeout: 20_000 });
  expect({ status: ended.status, stdout: ended.stdout, stderr: ended.stderr }).toEqual({ status: 0, stdout: "0\n401\n", stderr: "" });
});

test("npm start runs the demo, whatever Node runs npm", () => {
  const text = execFileSync("npm", ["start", "--silent", "--", "--help"], { cwd: root, encoding: "utf8", timeout: 30_000 });
  expect(text).toContain("Usage: outrigger demo");
});
