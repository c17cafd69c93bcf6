/** The command as people and scripts meet it: a process with words, an exit code, and two streams. */
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { type Running, runCommand, startCommand } from "./kit/command.ts";

const folder = mkdtempSync(join(tmpdir(), "outrigger-command-"));
afterAll(() => rmSync(folder, { recursive: true }));

const consumer = "apiVersion: outrigger.dev/v1alpha1\nkind: Consumer\nmetadata: {name: anyone}\nspec:\n  identities: [{anonymous: {}}]\n";
const provider = (endpoint: string) =>
  `---\napiVersion: outrigger.dev/v1alpha1\nkind: Provider\nmetadata: {name: near}\nspec:\n  openai: {row: compatible}\n  endpoint: ${endpoint}\n`;
const route = (target: string) =>
  `---\napiVersion: outrigger.dev/v1alpha1\nkind: ModelRoute\nmetadata: {name: all}\nspec:\n  match: {models: ["demo*"]}\n  targets: [{provider: ${target}}]\n`;

function policy(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** A demo on free ports, and what it says of itself. */
async function startDemo(words: readonly string[] = [], environment: Readonly<Record<string, string>> = {}) {
  const running = startCommand(["-o", "json", "demo", "--port", "0", "--ops-port", "0", ...words], { environment });
  const [text] = await running.wrote("stdout", /^\{[\s\S]*^\}$/m);
  const said: {
    address: string;
    operations: string;
    demoProvider: string;
    providers: { provider: string; models: string[]; found: string }[];
    smart: unknown;
  } = JSON.parse(text);
  return { running, said };
}

describe("words", () => {
  test.each([
    [["--version"], 0, /^\d+\.\d+\.\d+\n$/],
    [["--help"], 0, /Commands:[\s\S]*demo[\s\S]*run[\s\S]*chat[\s\S]*check[\s\S]*explain[\s\S]*keys/],
    [["demo", "--help"], 0, /--smart <provider\/model>/],
  ])("%j shows something and ends with %i", async (words, code, shown) => {
    const ended = await runCommand(words);
    expect(ended).toMatchObject({ code, stdout: expect.stringMatching(shown), stderr: "" });
  });

  test.each([
    [["frobnicate"], /unknown command 'frobnicate'/],
    [["run"], /required option '-f, --file <path...>' not specified/],
    [["demo", "--port", "99999"], /'99999' is invalid.*Expected a whole number from 0 to 65535/],
    [["-o", "xml", "check", "-f", "x"], /Allowed choices are table, json, yaml/],
    [["chat"], /There is no prompt/],
    [["keys", "hash"], /Standard input is empty: expected a key/],
    [["chat", "--address", "not an address", "hi"], /is no address: expected host:port/],
    [["chat", "--address", "ftp://127.0.0.1:7410", "hi"], /is no address: expected host:port/],
  ])("%j is a mistake of the caller and ends with 2", async (words, said) => {
    const ended = await runCommand(words);
    expect(ended).toMatchObject({ code: 2, stdout: "", stderr: expect.stringMatching(said) });
  });
});

describe("keys", () => {
  test("create shows a key, and hash gives the hash that belongs to it", async () => {
    const { key, sha256 } = JSON.parse((await runCommand(["-o", "json", "keys", "create"])).stdout);
    expect(key).toMatch(/^org_[A-Za-z0-9_-]{43}$/);
    expect(sha256).toBe(createHash("sha256").update(key).digest("hex"));
    expect(await runCommand(["keys", "hash"], { input: `${key}\n` })).toEqual({ code: 0, stdout: `${sha256}\n`, stderr: "" });
  });

  test("hash refuses what is no key", async () => {
    expect(await runCommand(["keys", "hash"], { input: "two words" })).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/expected one key/),
    });
  });
});

describe("check", () => {
  test("says what is wrong with file, line and column, and ends with 1", async () => {
    const path = policy("wrong.yaml", consumer + provider("http://127.0.0.1:9/v1").replace("endpoint", "endpiont") + route("neer"));
    const ended = await runCommand(["check", "-f", path]);
    expect(ended.code).toBe(1);
    expect(ended.stdout).toContain(`${path}:12:3: error: `);
    expect(ended.stdout).toMatch(/endpiont.*endpoint.*\[policy\/unknown-field\]/);
    expect(ended.stdout).toMatch(/neer.*\[policy\/unknown-reference\]/);
    expect(ended.stdout).toMatch(/\d+ errors?, \d+ warnings?: a sidecar would refuse this policy whole\.\n$/);
  });

  test("ends with 4 where there are only warnings, with 0 where there is nothing to say", async () => {
    const fine = policy("fine.yaml", consumer + provider("http://127.0.0.1:9/v1") + route("near"));
    expect(await runCommand(["check", "-f", fine])).toMatchObject({ code: 0, stdout: "3 resources in 1 file, no error, 0 warnings.\n" });
    const grant =
      "---\napiVersion: outrigger.dev/v1alpha1\nkind: SidecarGrant\nmetadata: {name: g}\nspec: {sidecars: [{account: a}], routes: ['*']}\n";
    const granted = policy("granted.yaml", consumer + provider("http://127.0.0.1:9/v1") + route("near") + grant);
    expect(await runCommand(["check", "-f", granted])).toMatchObject({ code: 0, stdout: "4 resources in 1 file, no error, 0 warnings.\n" });
    const exposed = await runCommand(["-o", "json", "check", "-f", fine, "--exposed"]);
    expect(exposed.code).toBe(4);
    expect(JSON.parse(exposed.stdout)).toMatchObject({
      errors: 0,
      warnings: 1,
      findings: [{ id: "policy/anonymous-consumer", severity: "warning" }],
    });
  });

  test("a file that is not there is an error", async () => {
    expect(await runCommand(["check", "-f", join(folder, "none.yaml")])).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/does not exist/),
    });
  });
});

describe("explain", () => {
  test("says what each filter would decide, and sends nothing", async () => {
    let requests = 0;
    const server = createServer((_, response) => {
      requests += 1;
      response.end();
    });
    await listen(server);
    const path = policy("explained.yaml", consumer + provider(`http://127.0.0.1:${portOf(server)}/v1`) + route("near"));
    const ended = await runCommand(["explain", "-f", path, "-m", "demo:x", "what?"]);
    server.close();
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    expect(ended.stdout).toMatch(/^FILTER +DECIDED +FACTS\nidentify .*consumer=anyone/);
    expect(ended.stdout).toMatch(/\nroute .*provider=near/);
    expect(requests).toBe(0);
  });

  test("ends with 1 if the call would be refused, and says why", async () => {
    const path = policy("explained.yaml", consumer + provider("http://127.0.0.1:9/v1") + route("near"));
    expect(await runCommand(["explain", "-f", path, "-m", "gpt-5"])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/would be refused: .*gpt-5.*\(MODEL_NOT_FOUND\)\n.*docs\/faults\.md#model_not_found/),
    });
    const json = await runCommand(["-o", "json", "explain", "-f", path, "-m", "gpt-5"]);
    expect(json.code).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({ allowed: false, reason: expect.stringMatching(/MODEL_NOT_FOUND/) });
  });

  test("refuses policy that a sidecar would refuse", async () => {
    const path = policy("dangling.yaml", consumer + route("nobody"));
    expect(await runCommand(["explain", "-f", path])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/dangling\.yaml:\d+:\d+: error: .*nobody/),
    });
  });
});

describe("run", () => {
  test("serves policy from a file, refuses a bad edit with its place, applies a good one, and stops when told", async () => {
    const good = consumer + provider("http://127.0.0.1:9/v1") + route("near");
    const path = policy("watched.yaml", good);
    const running = startCommand(["run", "-f", path, "--port", "0", "--ops-port", "0", "--log-format", "text"]);
    const [, address = ""] = await running.wrote("stdout", /listens on (http:\S+)/);
    await running.wrote("stdout", /all +demo\* +near/);
    expect((await listModels(address)).map((model) => model.id)).toEqual([]);
    writeFileSync(path, good.replace("provider: near", "provider: far"));
    await running.wrote("stderr", /watched\.yaml:\d+:\d+: error: .*There is no Provider "far"/);
    expect((await fetch(`${address}/v1/models`)).status).toBe(200);
    writeFileSync(path, good.replace("demo*", "demo"));
    await running.wrote("stderr", /policy applied[\s\S]*policy applied/);
    expect((await listModels(address)).map((model) => model.id)).toEqual(["demo"]);
    expect(await running.stop()).toMatchObject({ code: 0 });
  });

  // It ended with 13 and a warning of Node's, and the demo went on without a door.
  test.each([["run"], ["demo"]])("%s ends well when operations are told to drain", async (word) => {
    const path = policy("drained.yaml", consumer + provider("http://127.0.0.1:9/v1") + route("near"));
    const files = word === "run" ? ["-f", path, "--log-level", "silent"] : [];
    const running = startCommand(["-o", "json", word, ...files, "--port", "0", "--ops-port", "0", "--no-api"]);
    const [, operations = ""] = await running.wrote("stdout", /"operations": "(http:[^"]+)"/);
    expect((await fetch(`${operations}/drain`, { method: "POST" })).status).toBe(202);
    expect(await running.ended).toMatchObject({ code: 0, stderr: "" });
  });

  test("serves on a Unix socket alone, and is asked there", async () => {
    const path = policy("socket.yaml", consumer + provider("http://127.0.0.1:9/v1") + route("near"));
    const socket = join(folder, "doors.sock");
    const running = startCommand(["run", "-f", path, "--no-listen", "--no-ops", "--socket", socket]);
    await running.wrote("stdout", /listens on \/\S+doors\.sock\n(?!Operations)/);
    const explained = await runCommand(["explain", "--address", `unix:${socket}`, "-m", "demo:x"]);
    expect(explained).toMatchObject({ code: 0, stdout: expect.stringMatching(/provider=near/) });
    expect(await running.stop()).toMatchObject({ code: 0 });
    const nobody = await runCommand(["chat", "--address", `unix:${socket}`, "hi"]);
    expect(nobody).toMatchObject({ code: 1, stderr: expect.stringMatching(/Nothing listens at unix:/) });
  });

  test("does not start where it cannot listen, says so in plain words, and leaves what is there", async () => {
    const path = policy("nowhere.yaml", consumer + provider("http://127.0.0.1:9/v1") + route("near"));
    const start = (...words: string[]) => runCommand(["run", "-f", path, "--no-ops", "--log-level", "silent", ...words]);
    expect(await start("--no-listen", "--socket", path)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /nowhere\.yaml is there already and is no socket, so it stays as it is\.\nChoose another path with --socket\.\n$/,
      ),
    });
    expect(existsSync(path)).toBe(true);
    expect(await start("--no-listen", "--socket", join(folder, "none", "doors.sock"))).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /The socket \/\S+\/none\/doors\.sock cannot be made\.\nChoose with --socket a path in a folder that is there/,
      ),
    });
    expect(await start("--no-listen")).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/nowhere to listen: expected --socket with --no-listen/),
    });
  });

  test("does not start with policy that is wrong, and names the place", async () => {
    const path = policy("bad.yaml", `${consumer}---\nkind: Providr\n`);
    const ended = await runCommand(["run", "-f", path, "--port", "0", "--ops-port", "0"]);
    expect(ended).toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(/bad\.yaml:7:7: error: .*Providr/) });
  });

  test("does not start with a secret that is not there, and names the variable", async () => {
    const path = policy(
      "secret.yaml",
      consumer + provider("http://127.0.0.1:9/v1").concat("  credential: {header: {secret: {env: NO_SUCH_KEY}}}\n") + route("near"),
    );
    const ended = await runCommand(["run", "-f", path, "--port", "0", "--ops-port", "0"]);
    expect(ended).toMatchObject({ code: 1, stderr: expect.stringMatching(/NO_SUCH_KEY/) });
  });

  test("says which port is taken", async () => {
    const server = createServer();
    await listen(server);
    const path = policy("fine.yaml", consumer + provider("http://127.0.0.1:9/v1") + route("near"));
    const ended = await runCommand(["run", "-f", path, "--port", String(portOf(server)), "--ops-port", "0"]);
    server.close();
    expect(ended).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(new RegExp(`127\\.0\\.0\\.1:${portOf(server)} is in use[\\s\\S]*--port`)),
    });
  });

  test("writes log lines as JSON where nobody watches", async () => {
    const path = policy("fine.yaml", consumer + provider("http://127.0.0.1:9/v1") + route("near"));
    const running = startCommand(["run", "-f", path, "--port", "0", "--ops-port", "0", "--no-api"]);
    await running.wrote("stdout", /all +demo\* +near/);
    const { stderr } = await running.stop();
    const lines = stderr
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines[0]).toMatchObject({ severity: "info", message: "policy applied" });
  });
});

describe("chat", () => {
  let demo: Running;
  let address: string;
  beforeAll(async () => {
    const started = await startDemo();
    demo = started.running;
    address = started.said.address;
  });
  afterAll(() => demo.stop());

  test("streams the answer to standard output, and what it cost to standard error", async () => {
    const ended = await runCommand(["chat", "--address", address, "-m", "demo", "What", "is 6 * 7?"]);
    expect(ended).toMatchObject({ code: 0, stdout: "6 * 7 = 42.\n" });
    expect(ended.stderr).toMatch(/^demo by demo · \d+ in, \d+ out · first token [\d.]+ (ms|s) · total [\d.]+ (ms|s) · USD 0\.0000\d\d\n$/);
  });

  test("takes the prompt from standard input, instructions and limits from flags", async () => {
    const ended = await runCommand(["chat", "--address", address, "-m", "demo", "--system", "Be brief.", "--max-tokens", "2"], {
      input: "What is 6 * 7?\n",
    });
    expect(ended).toMatchObject({ code: 0, stdout: "6 *\n", stderr: expect.stringMatching(/ended by the limit on tokens/) });
  });

  test("gives everything to machines", async () => {
    const json = await runCommand(["-o", "json", "chat", "--address", address, "-m", "demo", "What is 6 * 7?"]);
    expect(JSON.parse(json.stdout)).toMatchObject({
      model: "demo",
      route: "demo",
      provider: "demo",
      choices: [{ message: { parts: [{ text: { text: "6 * 7 = 42." } }] }, finishReason: "FINISH_REASON_STOP" }],
      usage: { inputTokens: expect.any(String) },
      cost: { currency: "USD" },
      firstMs: expect.any(Number),
      totalMs: expect.any(Number),
    });
    const yaml = await runCommand(["-o", "yaml", "chat", "--address", address, "-m", "demo", "What is 6 * 7?"]);
    expect(parse(yaml.stdout)).toMatchObject({ provider: "demo" });
  });

  test("shows thinking apart from the answer", async () => {
    const ended = await runCommand(["chat", "--address", address, "-m", "demo:reasoning", "What is 6 * 7?"]);
    expect(ended).toMatchObject({
      code: 0,
      stdout: "6 * 7 = 42.\n",
      stderr: expect.stringMatching(/^thinking: The user asks about .*\n.*\(\d+ thinking\)/),
    });
  });

  test("a refused call names its reason and page, and ends with 1", async () => {
    const ended = await runCommand(["chat", "--address", address, "-m", "gpt-5", "hi"]);
    expect(ended).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringMatching(/^error: .*gpt-5.*\(MODEL_NOT_FOUND\)\n.*docs\/faults\.md#model_not_found\n$/),
    });
  });

  test("an answer that breaks off ends with 1, after what arrived", async () => {
    const ended = await runCommand(["chat", "--address", address, "-m", "demo:cut?after=3", "What is 6 * 7?"]);
    expect(ended).toMatchObject({ code: 1, stdout: "6 * 7\n", stderr: expect.stringMatching(/PROVIDER_ANSWER_INCOMPLETE/) });
  });

  test("asks the running sidecar to explain", async () => {
    const ended = await runCommand(["-o", "json", "explain", "--address", address, "-m", "demo:tools"]);
    expect(JSON.parse(ended.stdout)).toMatchObject({
      allowed: true,
      decisions: expect.arrayContaining([expect.objectContaining({ filter: "route" })]),
    });
  });

  test("says what to do where nothing listens, and where something else does", async () => {
    const server = createServer((_, response) => response.end("hello"));
    await listen(server);
    const other = await runCommand(["chat", "--address", `127.0.0.1:${portOf(server)}`, "hi"]);
    expect(other).toMatchObject({ code: 1, stderr: expect.stringMatching(/is no sidecar/) });
    await new Promise((done) => server.close(done));
    const nothing = await runCommand(["chat", "--address", `127.0.0.1:${portOf(server, false)}`, "hi"]);
    expect(nothing).toMatchObject({ code: 1, stderr: expect.stringMatching(/Nothing listens at .*\n.*outrigger demo/) });
  });
});

describe("demo", () => {
  test("greets with what it found, how to ask it, and stops without a trace", async () => {
    const running = startCommand(["demo", "--port", "0", "--ops-port", "0"]);
    await running.wrote(
      "stdout",
      /demo {6}demo\*, smart[\s\S]*curl -N http:\/\/127\.0\.0\.1:\d+\/v1\/chat\/completions[\s\S]*OPENAI_BASE_URL=http:\/\/127\.0\.0\.1:\d+\/v1[\s\S]*Ctrl-C stops everything/,
    );
    expect(await running.stop("SIGINT")).toMatchObject({ code: 0 });
  });

  test("finds keys in the environment, and takes its own placeholder for none", async () => {
    const { running, said } = await startDemo(["--smart", "xai/grok-9"], {
      XAI_API_KEY: "k",
      GROQ_API_KEY: "k",
      OPENAI_API_KEY: "outrigger",
    });
    expect(said.providers).toEqual([
      { provider: "demo", models: ["demo*"], found: expect.any(String) },
      { provider: "groq", models: ["*"], found: "GROQ_API_KEY" },
      { provider: "xai", models: ["smart", "grok-*"], found: "XAI_API_KEY" },
    ]);
    expect(said.smart).toEqual([{ provider: "xai", model: "grok-9" }]);
    await running.stop();
  });

  test("finds a local server, and sends smart to its first model", async ({ skip }) => {
    const server = createServer((request, response) => {
      if (request.url === "/v1/models") response.end(JSON.stringify({ object: "list", data: [{ id: "near:1b" }, { id: "far:2b" }] }));
      else response.writeHead(404).end();
    });
    const listens = await new Promise((done) => {
      server.on("error", () => done(false));
      // The one place where such a server is looked for, as a row of the provider table says.
      server.listen(11_434, "127.0.0.1", () => done(true));
    });
    if (!listens) skip("port 11434, where a local server is looked for, is taken");
    const { running, said } = await startDemo();
    await running.stop();
    server.closeAllConnections();
    server.close();
    expect(said.providers[1]).toEqual({ provider: "ollama", models: ["near:1b", "far:2b", "smart"], found: "answers on this machine" });
    expect(said.smart).toEqual([{ provider: "ollama", model: "near:1b" }]);
  });

  test("a wrong --smart names what there is", async () => {
    const ended = await runCommand(["demo", "--port", "0", "--ops-port", "0", "--smart", "xai/grok-9"]);
    expect(ended).toMatchObject({ code: 1, stderr: expect.stringMatching(/names no provider that was found: .*one of demo/) });
  });

  test("exports policy that run accepts, and overwrites nothing", async () => {
    const path = join(folder, "exported.yaml");
    const { running } = await startDemo(["--export", path], { ANTHROPIC_API_KEY: "k", TOGETHER_API_KEY: "k" });
    await running.stop();
    expect(readFileSync(path, "utf8")).not.toMatch(/: k$/m);
    const served = startCommand(["run", "-f", path, "--port", "0", "--ops-port", "0"], {
      environment: { ANTHROPIC_API_KEY: "k", TOGETHER_API_KEY: "k" },
    });
    await served.wrote("stdout", /smart +smart +demo/);
    expect(await served.stop()).toMatchObject({ code: 0 });
    expect((await runCommand(["check", "-f", path])).code).not.toBe(1);
    const again = await runCommand(["demo", "--port", "0", "--ops-port", "0", "--export", path]);
    expect(again).toMatchObject({ code: 1, stderr: expect.stringMatching(/exists already/) });
  });

  // The next start, with another port, was refused because of the file that this one left.
  test("exports nothing where it could not start", async () => {
    const server = createServer();
    await listen(server);
    const path = join(folder, "not-exported.yaml");
    const ended = await runCommand(["demo", "--port", String(portOf(server)), "--ops-port", "0", "--export", path]);
    server.close();
    expect(ended).toMatchObject({ code: 1, stderr: expect.stringMatching(/is in use/) });
    expect(existsSync(path)).toBe(false);
  });

  test("starts the provider alone", async () => {
    const running = startCommand(["demo", "--provider-only"]);
    const [, endpoint = ""] = await running.wrote("stdout", /on (http:\S+)/);
    expect((await fetch(`${endpoint}/models`)).status).toBe(200);
    expect(await running.stop()).toMatchObject({ code: 0 });
  });
});

async function listModels(address: string): Promise<{ id: string }[]> {
  const body = (await (await fetch(`${address}/v1/models`)).json()) as { data: { id: string }[] };
  return body.data;
}

function listen(server: Server): Promise<void> {
  return new Promise((done) => server.listen(0, "127.0.0.1", done));
}

const ports = new WeakMap<Server, number>();

/** The port that a server listens on, or listened on. */
function portOf(server: Server, running = true): number {
  if (running && server.address() !== null) ports.set(server, (server.address() as AddressInfo).port);
  return ports.get(server) ?? 0;
}
