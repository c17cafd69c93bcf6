/** `outrigger run` and `outrigger demo` are control too: the commands that ask one work against them, without any setting. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Code, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { PolicyService } from "../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { SidecarService } from "../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { type Running, runCommand, startCommand } from "./kit/command.ts";
import { toldFault } from "./kit/rpc.ts";

const folder = mkdtempSync(join(tmpdir(), "outrigger-embedded-"));
const environment = { HOME: join(folder, "home") };
const started: Running[] = [];
afterEach(async () => {
  await Promise.all(started.splice(0).map((one) => one.stop("SIGKILL")));
});
afterAll(() => rmSync(folder, { recursive: true }));

const text = (kind: string, name: string, spec: string) =>
  `apiVersion: outrigger.dev/v1alpha1\nkind: ${kind}\nmetadata: {name: ${name}}\nspec: ${spec}\n`;
const consumer = text("Consumer", "anyone", "{identities: [{anonymous: {}}]}");
const provider = text("Provider", "near", "{openai: {row: compatible}, endpoint: http://127.0.0.1:9/v1}");
const route = (name: string, target = "near") => text("ModelRoute", name, `{match: {models: [${name}]}, targets: [{provider: ${target}}]}`);
let files = 0;

/** A new folder with policy in one file. */
function policyFolder(): string {
  files += 1;
  const path = mkdtempSync(join(folder, "policy-"));
  writeFileSync(join(path, "all.yaml"), `# Ours.\n${consumer}---\n${provider}---\n${route("first")}`);
  return path;
}

function fileWith(content: string): string {
  files += 1;
  const path = join(folder, `more-${files}.yaml`);
  writeFileSync(path, content);
  return path;
}

interface Said {
  readonly address: string;
  readonly policyApi: { readonly address: string; readonly tokenFile: string } | null;
}

/** A `run` or `demo` on free ports, and what it says of itself. */
async function start(words: readonly string[], around: Readonly<Record<string, string>> = environment) {
  const running = startCommand(["-o", "json", ...words, "--port", "0", "--ops-port", "0"], { environment: around });
  started.push(running);
  const [said] = await running.wrote("stdout", /^\{[\s\S]*^\}$/m);
  return { running, ...(JSON.parse(said) as Said) };
}

async function startWithApi(words: readonly string[]) {
  const one = await start([...words, "--api-port", "0"]);
  if (one.policyApi === null) throw new Error("the API is served");
  const { address, tokenFile } = one.policyApi;
  const control = ["--control", address.replace("http://", "")];
  const ask = (...asked: string[]) => runCommand([...asked, ...control], { environment });
  return { ...one, api: address, tokenFile, control, ask };
}

const routesOf = (dumped: string): string[] =>
  [...dumped.matchAll(/kind: ModelRoute\nmetadata:\n {2}name: (\S+)/g)].map(([, name = ""]) => name);

describe("run", () => {
  test("is asked and changed by the commands of the same user, and its files are edited", async () => {
    const path = policyFolder();
    const { ask, address, running } = await startWithApi(["run", "-f", path]);
    expect(await ask("status")).toMatchObject({ code: 0, stdout: expect.stringMatching(/current\n\n1 of 1 sidecar enforces/) });

    const more = fileWith(route("second"));
    expect(await ask("diff", "-f", more)).toMatchObject({
      code: 3,
      stdout: expect.stringMatching(/create {2}ModelRoute {2}default\/second/),
    });
    const applied = await ask("apply", "-f", more, "--reason", "for a test", "--owner", "us");
    expect(applied).toMatchObject({ code: 0, stdout: expect.stringMatching(/Applied as revision 2: 1 created/) });
    expect(readFileSync(join(path, "ModelRoute/default.second.yaml"), "utf8")).toContain("name: second");
    expect(readFileSync(join(path, "all.yaml"), "utf8")).toBe(`# Ours.\n${consumer}---\n${provider}---\n${route("first")}`);
    expect(await ask("diff", "-f", more, "--owner", "us")).toMatchObject({ code: 0 });
    expect(routesOf((await ask("dump")).stdout)).toEqual(["first", "second"]);
    expect((await ask("revisions")).stdout).toMatch(/2 .* local .*\+ModelRoute default\/second .*for a test/);
    const explained = await runCommand(["explain", "--address", address, "-m", "second"], { environment });
    expect(explained).toMatchObject({ code: 0, stdout: expect.stringMatching(/route/) });

    expect(await ask("rollback")).toMatchObject({ code: 0, stdout: expect.stringMatching(/Rolled back as revision 3: 1 deleted/) });
    expect(existsSync(join(path, "ModelRoute/default.second.yaml"))).toBe(false);
    expect(await runCommand(["explain", "--address", address, "-m", "second"], { environment })).toMatchObject({ code: 1 });
    expect(await running.stop()).toMatchObject({ code: 0 });
  });

  test("goes on following its files, and refuses changes while they are wrong", async () => {
    const path = policyFolder();
    const { ask, running } = await startWithApi(["run", "-f", path]);
    const all = join(path, "all.yaml");
    const right = readFileSync(all, "utf8");
    writeFileSync(all, right.replace("provider: near", "provider: neer"));
    await running.wrote("stderr", /policy refused/);
    const more = fileWith(route("second"));
    const refused = await ask("apply", "-f", more);
    expect(refused).toMatchObject({ code: 1, stdout: expect.stringMatching(/all\.yaml:\d+:\d+: error: .*neer[\s\S]*nothing was changed/) });
    expect((await ask("status")).stdout).toMatch(/no policy, so what held before holds on:\n {2}\S*all\.yaml:\d+/);
    writeFileSync(all, right.replace("name: first", "name: renamed"));
    await running.wrote("stderr", /policy applied[\s\S]*policy applied/);
    expect(routesOf((await ask("dump")).stdout)).toEqual(["renamed"]);
    // Written by hand and not looked at yet: the change is made from there.
    writeFileSync(join(path, "third.yaml"), route("third"));
    expect(await ask("apply", "-f", more)).toMatchObject({ code: 0 });
    expect(routesOf((await ask("dump")).stdout)).toEqual(["renamed", "second", "third"]);
  });

  test("keeps its token where only this user reads it, says it nowhere, and takes it along", async () => {
    const { running, tokenFile, ask } = await startWithApi(["run", "-f", policyFolder()]);
    const token = readFileSync(tokenFile, "utf8").trim();
    expect(token).toMatch(/^opt_[A-Za-z0-9_-]{43}$/);
    expect(statSync(tokenFile).mode & 0o777).toBe(0o600);
    expect(statSync(join(tokenFile, "..")).mode & 0o777).toBe(0o700);
    expect(await ask("apply", "-f", fileWith(route("second")))).toMatchObject({ code: 0 });
    const ended = await running.stop();
    expect(`${ended.stdout}${ended.stderr}`).not.toContain(token.slice(4));
    expect(existsSync(tokenFile)).toBe(false);
  });

  test.each<[string, (url: string) => Transport]>([
    ["Connect over HTTP/1.1", (baseUrl) => createConnectTransport({ httpVersion: "1.1", baseUrl })],
    ["Connect over HTTP/2", (baseUrl) => createConnectTransport({ httpVersion: "2", baseUrl, useBinaryFormat: true })],
    ["gRPC", (baseUrl) => createGrpcTransport({ baseUrl })],
    ["gRPC-Web", (baseUrl) => createGrpcWebTransport({ httpVersion: "1.1", baseUrl })],
  ])("serves %s from its first connections on, to whoever has the token", async (_, open) => {
    const { api, tokenFile, running } = await startWithApi(["run", "-f", policyFolder()]);
    const authorization = `Bearer ${readFileSync(tokenFile, "utf8").trim()}`;
    // Each on a connection of its own: what serves them is loaded while they wait.
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => createClient(PolicyService, open(api)).listResources({}, { headers: { authorization } })),
    );
    expect(answers.map(({ resources }) => resources.length)).toEqual(Array(8).fill(3));
    const client = createClient(PolicyService, open(api));
    expect(await toldFault(client.listResources({}))).toMatchObject({ reason: "CREDENTIAL_MISSING" });
    const joining = createClient(SidecarService, open(api)).createJoinToken({ account: "chat" }, { headers: { authorization } });
    expect(await toldFault(joining)).toMatchObject({ reason: "JOINING_CLOSED", code: Code.FailedPrecondition });
    // A watcher does not keep it from stopping.
    const watching = client.watchResources({}, { headers: { authorization } })[Symbol.asyncIterator]();
    expect((await watching.next()).value?.upserts).toHaveLength(3);
    const [ended, over] = await Promise.all([running.stop(), toldFault(watching.next())]);
    expect([ended.code, over]).toMatchObject([0, { reason: "STOPPING" }]);
  });

  // The first remark that nobody read ended the whole process: it was enough that somebody asked the Policy API with a wrong token.
  test("goes on when nobody reads its standard error any more", async () => {
    const { api, address, running } = await startWithApi(["run", "-f", policyFolder()]);
    running.process.stderr?.destroy();
    for (let n = 0; n < 3; n++) {
      const headers = { authorization: "Bearer wrong", "content-type": "application/json" };
      const refused = await fetch(`${api}/outrigger.policy.v1.PolicyService/ListResources`, { method: "POST", headers, body: "{}" });
      expect(refused.status).toBe(401);
      expect((await fetch(`${address}/v1/models`)).status).toBe(200);
    }
    expect((await running.stop()).code).toBe(0);
  });

  test("lets pages of the origins call that it lets call the doors", async () => {
    const { api } = await startWithApi(["run", "-f", policyFolder(), "--cors-origin", "https://console.example.com"]);
    const preflight = (origin: string) =>
      fetch(`${api}/outrigger.policy.v1.PolicyService/ListResources`, {
        method: "OPTIONS",
        headers: { origin, "access-control-request-method": "POST" },
      });
    expect((await preflight("https://console.example.com")).headers.get("access-control-allow-origin")).toBe("https://console.example.com");
    expect((await preflight("https://elsewhere.example.com")).headers.get("access-control-allow-origin")).toBeNull();
  });

  test("fails where the port that was asked for is taken, and does without where nobody asked", async () => {
    const server = await occupy(0);
    const taken = String((server.address() as { readonly port: number }).port);
    const path = policyFolder();
    const insisted = await runCommand(["run", "-f", path, "--port", "0", "--ops-port", "0", "--api-port", taken], { environment });
    expect(insisted).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringMatching(/:\d+ is in use[\s\S]*--api-port[\s\S]*--no-api/),
    });
    server.close();
    // Whether it is ours or somebody else's who tests or runs here: afterwards it is taken.
    const usual = await occupy(7411).catch(() => undefined);
    const { policyApi, running } = await start(["run", "-f", path]);
    usual?.close();
    expect(policyApi).toBeNull();
    await running.wrote("stderr", /"severity":"warn".*Policy API is not served: 127\.0\.0\.1:7411 is in use/);
    expect(await running.stop()).toMatchObject({ code: 0 });
  });

  test("leaves it out when told to, and where there is no place for its token", async () => {
    const path = policyFolder();
    const { policyApi, running } = await start(["run", "-f", path, "--no-api"]);
    expect(policyApi).toBeNull();
    expect((await running.stop()).stderr).not.toMatch(/Policy API/);
    const homeless = await start(["run", "-f", path], {});
    expect(homeless.policyApi).toBeNull();
    await homeless.running.wrote("stderr", /no home folder/);
  });
});

test("a demo is changed until it ends", async () => {
  const { ask, address } = await startWithApi(["demo", "--seed", "one"]);
  expect(await ask("apply", "-f", fileWith(route("quick", "demo, model: demo")))).toMatchObject({ code: 0 });
  const asked = await runCommand(["chat", "--address", address, "-m", "quick", "What is 6 * 7?"], { environment });
  expect(asked).toMatchObject({ code: 0, stdout: "6 * 7 = 42.\n" });
  expect(await ask("rollback")).toMatchObject({ code: 0 });
  const gone = await runCommand(["chat", "--address", address, "-m", "quick", "What is 6 * 7?"], { environment });
  expect(gone).toMatchObject({ code: 1, stderr: expect.stringMatching(/MODEL_NOT_FOUND/) });
});

test("a token that a killed process left behind is of no use, and that is said", async () => {
  const { running, control, tokenFile } = await startWithApi(["run", "-f", policyFolder()]);
  await running.stop("SIGKILL");
  expect(existsSync(tokenFile)).toBe(true);
  const next = startCommand(
    ["run", "-f", policyFolder(), "--port", "0", "--ops-port", "0", "--api-port", control[1]?.split(":")[1] ?? ""],
    {
      environment: { HOME: join(folder, "elsewhere") },
    },
  );
  started.push(next);
  await next.wrote("stdout", /Policy API on/);
  const refused = await runCommand(["status", ...control], { environment });
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/CREDENTIAL_UNKNOWN[\s\S]*is one of before/) });
  expect(await runCommand(["status", ...control], { environment: {} })).toMatchObject({
    stderr: expect.stringMatching(/CREDENTIAL_MISSING/),
  });
});

function occupy(port: number): Promise<Server> {
  const server = createServer();
  return new Promise((done, failed) => {
    server.on("error", failed);
    server.listen(port, "127.0.0.1", () => done(server));
  });
}
