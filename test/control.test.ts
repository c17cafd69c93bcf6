/** Control as programs and people meet it: a process of its own, real clients, real sockets. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport, createConnectTransport as createWebTransport } from "@connectrpc/connect-web";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { HealthCheckRequestSchema, HealthCheckResponseSchema } from "../proto/gen/grpc/health/v1/health_pb.ts";
import {
  ApplyResourcesRequestSchema,
  ApplyResourcesResponseSchema,
  ListResourcesRequestSchema,
  ListResourcesResponseSchema,
  PolicyService,
} from "../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { type Ended, type Running, runCommand, startCommand } from "./kit/command.ts";
import { GrpcClient, toldFault, transports } from "./kit/rpc.ts";

const folder = mkdtempSync(join(tmpdir(), "outrigger-control-"));
const data = join(folder, "data");
const pageOrigin = "https://console.example.com";
let running: Running;
let said: { address: string; operations: string; revision: number; token: string | null; data: string };
let editor: string;
let reader: string;

const head = (kind: string, name: string) => `apiVersion: outrigger.dev/v1alpha1\nkind: ${kind}\nmetadata: {name: ${name}}\n`;
const provider = (name: string, port = 1) => `${head("Provider", name)}spec: {openai: {row: compatible}, endpoint: "http://h:${port}"}\n`;
const route = (name: string, target: string) =>
  `${head("ModelRoute", name)}spec:\n  match: {models: [${name}]}\n  targets: [{provider: ${target}}]\n`;
const consumer = `${head("Consumer", "anyone")}spec: {identities: [{anonymous: {}}]}\n`;

function file(name: string, ...documents: string[]): string {
  const path = join(folder, name);
  writeFileSync(path, documents.join("---\n"));
  return path;
}

/** Runs a command as the holder of a token. */
function outrigger(words: readonly string[], token = editor): Promise<Ended> {
  return runCommand(words, { environment: { OUTRIGGER_CONTROL: said.address, OUTRIGGER_CONTROL_TOKEN: token } });
}

async function token(name: string, ...words: string[]): Promise<string> {
  const made = await runCommand(["-o", "json", "token", "create", name, "--data", data, ...words]);
  expect(made).toMatchObject({ code: 0, stderr: "" });
  return JSON.parse(made.stdout).token;
}

async function start(...words: string[]): Promise<void> {
  running = startCommand(["-o", "json", "control", "--data", data, "--port", "0", "--ops-port", "0", ...words]);
  const [text] = await running.wrote("stdout", /^\{[\s\S]*^\}$/m);
  said = JSON.parse(text);
}

const port = (): number => Number(new URL(said.address).port);
const bearer = (credential: string) => ({ headers: { authorization: `Bearer ${credential}` } });

beforeAll(async () => {
  editor = await token("ci", "--role", "editor");
  reader = await token("dashboard");
  await start("--cors-origin", pageOrigin);
});

afterAll(async () => {
  await running.stop();
  rmSync(folder, { recursive: true });
});

beforeEach(async () => {
  // Each test begins with the same policy, whatever the one before left.
  await outrigger(["apply", "-f", file("base.yaml", consumer, provider("near"), route("fast", "near")), "--owner", "tests", "--prune"]);
});

test("a cluster cannot be trusted where there is no way to ask it, and it says what is missing", async () => {
  const words = ["control", "--data", join(folder, "elsewhere"), "--port", "0", "--no-ops", "--trust-cluster"];
  const inNoPod = await runCommand(words);
  expect(inNoPod.code).toBe(2);
  expect(inNoPod.stderr).toContain("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt");
  expect(inNoPod.stderr).toMatch(/This is no pod.*--trust-cluster https:\/\/HOST:PORT --cluster-ca FILE --cluster-token FILE/s);
  const ca = file("cluster.pem", "");
  const noToken = await runCommand([...words, "https://127.0.0.1:1", "--cluster-ca", ca, "--cluster-token", join(folder, "none")]);
  expect([noToken.code, noToken.stderr]).toEqual([2, expect.stringMatching(/token.*cannot be read: .*none\.\n.*--cluster-token/s)]);
});

describe("clients", () => {
  test.each(Object.entries(transports))("%s reads and changes policy", async (name, open) => {
    const client = createClient(PolicyService, open(port()));
    const listed = await client.listResources({}, bearer(reader));
    expect(listed.resources.map(({ owner }) => owner)).toEqual(["tests", "tests", "tests"]);
    const applied = await client.applyResources({ texts: [{ path: "p.yaml", text: provider("near", 2) }], reason: name }, bearer(editor));
    expect(applied).toMatchObject({ applied: true, problems: [] });
  });

  test("grpc-js reads, changes, and is refused in its own words", async () => {
    const client = new GrpcClient(port());
    const path = (method: string) => `/${PolicyService.typeName}/${method}`;
    try {
      const list = (authorization: string) =>
        client.unary(path("ListResources"), ListResourcesRequestSchema, ListResourcesResponseSchema, create(ListResourcesRequestSchema), {
          authorization,
        });
      expect((await list(`Bearer ${reader}`)).messages[0]?.resources).toHaveLength(3);
      expect(await list("Bearer nonsense")).toMatchObject({ code: Code.Unauthenticated, reason: "CREDENTIAL_UNKNOWN" });
      const request = create(ApplyResourcesRequestSchema, { texts: [{ path: "p.yaml", text: provider("near", 3) }] });
      const apply = (authorization: string) =>
        client.unary(path("ApplyResources"), ApplyResourcesRequestSchema, ApplyResourcesResponseSchema, request, { authorization });
      expect(await apply(`Bearer ${reader}`)).toMatchObject({ code: Code.PermissionDenied, reason: "ROLE_MISSING" });
      expect((await apply(`Bearer ${editor}`)).messages[0]?.applied).toBe(true);
      const health = await client.unary(
        "/grpc.health.v1.Health/Check",
        HealthCheckRequestSchema,
        HealthCheckResponseSchema,
        create(HealthCheckRequestSchema, { service: PolicyService.typeName }),
        {},
      );
      expect(health.messages[0]?.status).toBe(1);
    } finally {
      client.close();
    }
  });

  test("a page of an allowed origin may call, and no other", async () => {
    const preflight = (origin: string) =>
      fetch(`${said.address}/${PolicyService.typeName}/ListResources`, {
        method: "OPTIONS",
        headers: {
          origin,
          "access-control-request-method": "POST",
          "access-control-request-headers": "authorization,content-type,connect-protocol-version",
        },
      });
    const allowed = await preflight(pageOrigin);
    expect(allowed.status).toBe(204);
    expect(allowed.headers.get("access-control-allow-origin")).toBe(pageOrigin);
    expect(allowed.headers.get("access-control-allow-methods")).toContain("POST");
    const headers = (allowed.headers.get("access-control-allow-headers") ?? "").toLowerCase();
    for (const name of ["authorization", "content-type", "connect-protocol-version", "x-grpc-web"]) expect(headers).toContain(name);
    expect((await preflight("https://evil.example.com")).headers.get("access-control-allow-origin")).toBeNull();
    for (const open of [createWebTransport, createGrpcWebTransport]) {
      let origin: string | null = "";
      const fromPage: typeof fetch = async (input, init) => {
        const response = await fetch(input, {
          ...init,
          headers: { ...Object.fromEntries(new Headers(init?.headers)), origin: pageOrigin },
        });
        origin = response.headers.get("access-control-allow-origin");
        return response;
      };
      const client = createClient(PolicyService, open({ baseUrl: said.address, fetch: fromPage }));
      expect((await client.listResources({}, bearer(reader))).resources).toHaveLength(3);
      expect(origin).toBe(pageOrigin);
    }
  });

  test("what is too large is refused with the limit, and nothing is changed", async () => {
    const client = createClient(PolicyService, transports["Connect, HTTP/2, proto"]?.(port()) ?? fail());
    const before = (await client.listRevisions({ pageSize: 1 }, bearer(reader))).revisions[0]?.revision;
    const text = `${provider("huge")}# ${"x".repeat(17 * 1024 * 1024)}\n`;
    const told = await toldFault(client.applyResources({ texts: [{ path: "huge.yaml", text }] }, bearer(editor)));
    expect(told.code).toBe(Code.ResourceExhausted);
    expect(told.message).toContain(String(16 * 1024 * 1024));
    expect((await client.listRevisions({ pageSize: 1 }, bearer(reader))).revisions[0]?.revision).toBe(before);
  });

  test("whoever sends nothing, or nonsense, is cut off without harm", async () => {
    for (const bytes of ["", "GET / HTTP/9\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense that is no frame at all"]) {
      const socket = connect(port(), "127.0.0.1");
      socket.on("error", () => undefined);
      const closed = new Promise((done) => socket.on("close", done));
      socket.write(bytes);
      socket.resume();
      if (bytes === "") socket.end();
      await closed;
    }
    const session = connectHttp2(said.address);
    await new Promise((done) => session.once("connect", done));
    const pinged = await new Promise((done) => session.ping((error) => done(error)));
    expect(pinged).toBeNull();
    session.close();
  });
});

describe("tokens", () => {
  const list = (credential: string | undefined) =>
    toldFault(
      createClient(PolicyService, transports["Connect, HTTP/1.1, proto"]?.(port()) ?? fail()).listResources(
        {},
        credential === undefined ? {} : bearer(credential),
      ),
    );

  test("none, a wrong one, one that expired and one that was revoked are told apart, and change nothing", async () => {
    expect(await list(undefined)).toMatchObject({ code: Code.Unauthenticated, reason: "CREDENTIAL_MISSING" });
    expect(await list("opt_wrong")).toMatchObject({ code: Code.Unauthenticated, reason: "CREDENTIAL_UNKNOWN" });
    const short = await token("short", "--role", "editor", "--expires", "1s");
    const gone = await token("gone", "--role", "editor");
    expect((await runCommand(["token", "revoke", "gone", "--data", data])).code).toBe(0);
    const listed = JSON.parse((await runCommand(["-o", "json", "token", "list", "--data", data])).stdout) as {
      name: string;
      expires: string | null;
    }[];
    expect(listed.map(({ name }) => name)).toEqual(["ci", "dashboard", "short"]);
    // It is good for a second, and control may take another to hear of it: asked by commands, each of which takes a while to start.
    let told = "";
    while (!told.includes("CREDENTIAL_EXPIRED")) told = (await outrigger(["dump"], short)).stderr;
    expect(await list(gone)).toMatchObject({ code: Code.Unauthenticated, reason: "CREDENTIAL_UNKNOWN" });
    const expired = await outrigger(["apply", "-f", file("x.yaml", provider("x"))], short);
    expect(expired).toMatchObject({ code: 1, stdout: "" });
    expect(expired.stderr).toContain("CREDENTIAL_EXPIRED");
    expect((await outrigger(["dump", "--kind", "Provider"])).stdout).not.toContain("name: x");
  });

  test("a reader reads and plans, and is refused when it changes", async () => {
    const path = file("near.yaml", provider("near", 9));
    expect((await outrigger(["dump"], reader)).code).toBe(0);
    expect((await outrigger(["diff", "-f", path], reader)).code).toBe(3);
    for (const words of [["apply", "-f", path], ["rollback"]]) {
      const refused = await outrigger(words, reader);
      expect(refused).toMatchObject({ code: 1, stdout: "" });
      expect(refused.stderr).toContain("ROLE_MISSING");
    }
    expect((await outrigger(["diff", "-f", path], reader)).code).toBe(3);
  });

  test("a name that is taken, or that stands for somebody else, is refused", async () => {
    expect((await runCommand(["token", "create", "ci", "--data", data])).stderr).toContain("There is a token ci already.");
    for (const name of ["local", "files", "Big", "a b", ""])
      expect((await runCommand(["token", "create", name, "--data", data])).code, name).toBe(2);
    expect((await runCommand(["token", "create", "x", "--expires", "soon", "--data", data])).code).toBe(2);
    expect((await runCommand(["token", "revoke", "nobody", "--data", data])).code).toBe(1);
  });
});

describe("the command", () => {
  test("plans, applies, tells drift, and dumps what can be applied again", async () => {
    const path = file("near.yaml", provider("near", 7), route("slow", "near"));
    const planned = await outrigger(["apply", "-f", path, "--dry-run"]);
    expect(planned.code).toBe(0);
    expect(planned.stdout).toContain('spec.endpoint: "http://h:1" -> "http://h:7"');
    expect(planned.stdout).toMatch(/^create +ModelRoute +default\/slow$/m);
    expect(planned.stdout).toContain("Nothing was changed.");
    expect((await outrigger(["diff", "-f", path])).code).toBe(3);
    const applied = await outrigger(["apply", "-f", path, "--reason", "because"]);
    expect(applied.stdout).toMatch(/Applied as revision \d+: 1 created, 1 updated\./);
    expect((await outrigger(["diff", "-f", path])).code).toBe(0);
    const dumped = await outrigger(["dump"]);
    expect(parseAllDocuments(dumped.stdout)).toHaveLength(4);
    const again = await outrigger(["apply", "-f", file("dump.yaml", dumped.stdout)]);
    expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining("Nothing to change") });
    const [newest] = JSON.parse((await outrigger(["-o", "json", "revisions"])).stdout).revisions;
    expect(newest).toMatchObject({ author: "ci", reason: "because" });
  });

  test("refuses malformed policy with every place, and nothing changes", async () => {
    const before = (await outrigger(["-o", "json", "revisions", "--limit", "1"])).stdout;
    const path = file("bad.yaml", provider("fine"), route("lost", "nobody"), provider("odd").replace("openai", "opanai"));
    const refused = await outrigger(["apply", "-f", path]);
    expect(refused.code).toBe(1);
    expect(refused.stdout).toContain(`${path}:16:8: error: Provider default/odd: spec.opanai`);
    expect(refused.stdout).toContain(`${path}:11:24: error: ModelRoute default/lost: spec.targets[0].provider`);
    expect(refused.stdout).toContain("Nothing would change");
    const machine = JSON.parse((await outrigger(["-o", "json", "apply", "-f", path])).stdout);
    expect(machine.applied).toBeUndefined();
    expect(machine.plan.changes).toBeUndefined();
    expect((await outrigger(["-o", "json", "revisions", "--limit", "1"])).stdout).toBe(before);
    const unread = await outrigger(["apply", "-f", join(folder, "missing.yaml")]);
    expect(unread).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("missing.yaml") });
    expect((await outrigger(["apply", "-f", path, "--prune"])).code).toBe(2);
  });

  test("goes back", async () => {
    await outrigger(["apply", "-f", file("near.yaml", provider("near", 8))]);
    const planned = await outrigger(["rollback", "--dry-run"]);
    expect(planned.stdout).toContain('spec.endpoint: "http://h:8" -> "http://h:1"');
    const back = await outrigger(["rollback", "--reason", "it broke"]);
    expect(back.stdout).toMatch(/Rolled back as revision \d+: 1 updated\./);
    expect((await outrigger(["dump"])).stdout).toContain("http://h:1");
    const revision = /as revision (\d+)/.exec(back.stdout)?.[1] ?? "";
    expect((await outrigger(["revisions", "--show", revision])).stdout).toContain('spec.endpoint: "http://h:8" -> "http://h:1"');
    expect((await outrigger(["revisions"])).stdout).toMatch(/back to \d+: it broke/);
    expect((await outrigger(["rollback", "999999"])).stderr).toContain("REVISION_NOT_FOUND");
    // It named the one before, which nobody had asked for.
    expect((await outrigger(["revisions", "--show", "999999"])).stderr).toContain("Revision 999999 is not known");
    expect((await outrigger(["rollout", "stop", "nothing"])).stderr).toContain("`outrigger rollout list`");
  });

  // It was told that what listened was no control.
  test("says that a set is too large for one request, and nothing changes", async () => {
    const before = await outrigger(["dump"]);
    const large = Array.from({ length: 9 }, (_, at) =>
      file(`large${at}.yaml`, consumer.replace("{name: anyone}", `{name: large${at}, annotations: {a: "${"x".repeat(1_900_000)}"}}`)),
    );
    const { code, stderr } = await outrigger(["apply", ...large.flatMap((path) => ["-f", path])]);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/16777216.*REQUEST_TOO_LARGE.*\n.*fewer files at a time/)]);
    expect((await outrigger(["dump"])).stdout).toBe(before.stdout);
  });

  test("says what listens not, and what is no control", async () => {
    const nobody = await runCommand(["dump", "--control", "127.0.0.1:1"]);
    expect(nobody).toMatchObject({ code: 1, stderr: expect.stringContaining("Nothing listens at 127.0.0.1:1") });
    const other = await runCommand(["dump", "--control", said.operations]);
    expect(other).toMatchObject({ code: 1, stderr: expect.stringContaining("is no control") });
    expect((await runCommand(["dump", "--control", "ftp://x"])).code).toBe(2);
    expect((await runCommand(["dump"], { environment: { OUTRIGGER_CONTROL: said.address } })).stderr).toContain("OUTRIGGER_CONTROL_TOKEN");
    const secured = await runCommand(["dump", "--control", said.address.replace("http:", "https:")]);
    expect(secured).toMatchObject({ code: 1, stderr: expect.stringMatching(/does not speak TLS \(.*\)\.\n.*http:\/\/ if it has none/) });
  });

  // What sets headers quoted all of it, with a stack, so that a token stood in the log of a pipeline.
  test("says that a token is none without saying the token", async () => {
    const text = `${editor}\nThis is the token ci, with the role editor.\n`;
    const given = { OUTRIGGER_CONTROL: said.address };
    for (const environment of [
      { ...given, OUTRIGGER_CONTROL_TOKEN: text },
      { ...given, OUTRIGGER_CONTROL_TOKEN_FILE: file("both", text) },
    ]) {
      const { code, stderr } = await runCommand(["dump"], { environment });
      expect([code, stderr]).toEqual([2, expect.stringContaining("holds no token: expected one word")]);
      expect(stderr).not.toContain(editor);
    }
  });
});

test("operations say that it lives, that it is ready, and count", async () => {
  const get = async (path: string) => {
    const response = await fetch(`${said.operations}${path}`);
    return [response.status, await response.text()] as const;
  };
  expect(await get("/healthz")).toEqual([200, "ok\n"]);
  expect(await get("/readyz")).toEqual([200, "ready\n"]);
  const [, metrics] = await get("/metrics");
  expect(metrics).toMatch(/outrigger_control_policy_changes_total\{action="apply"\} [1-9]/);
  expect(metrics).toMatch(
    /outrigger_control_requests_total\{service="outrigger.policy.v1.PolicyService",method="ListResources",code="OK"\} [1-9]/,
  );
  expect((await get("/else"))[0]).toBe(404);
});

test("every change is one line of the log, and no line holds a token or what policy says; all of it outlasts the process", async () => {
  await outrigger(["apply", "-f", file("near.yaml", provider("near", 4711)), "--reason", "the last one"]);
  const policy = (await outrigger(["dump"])).stdout;
  const { code, stderr } = await running.stop();
  expect(code).toBe(0);
  const lines = stderr
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const changes = lines.filter(({ message }) => message === "Policy was changed.");
  expect(changes.at(-1)).toMatchObject({ action: "apply", author: "ci", reason: "the last one", updated: 1 });
  expect(changes.map(({ revision }) => revision)).toEqual(changes.map((_, at) => at + 1));
  for (const secret of [editor, reader, "4711", "opt_"]) expect(stderr).not.toContain(secret);
  expect(lines.at(-1)?.message).toBe("Control has stopped.");
  expect(statSync(data).mode & 0o777).toBe(0o700);
  expect(readFileSync(join(data, "tokens.json"), "utf8")).not.toContain(editor.slice(4));
  await start();
  expect(said.revision).toBe(changes.length);
  expect((await outrigger(["dump"])).stdout).toBe(policy);
});

test("without any token it gives one for this machine, which is gone with the process", async () => {
  const alone = join(folder, "alone");
  const fresh = startCommand(["-o", "json", "control", "--data", alone, "--port", "0", "--no-ops", "--store", "memory"]);
  const [text] = await fresh.wrote("stdout", /^\{[\s\S]*^\}$/m);
  const first: { address: string; token: string } = JSON.parse(text);
  const environment = { OUTRIGGER_CONTROL: first.address, OUTRIGGER_CONTROL_TOKEN: first.token };
  expect((await runCommand(["apply", "-f", file("a.yaml", provider("a"))], { environment })).code).toBe(0);
  const { stderr } = await fresh.stop();
  expect(stderr).not.toContain(first.token);
  expect(first.token).toMatch(/^opt_.{43}$/);
});

test("a file that is wrong is logged once, with everything that is wrong, and again only when that changes", async () => {
  await running.stop();
  const files = mkdtempSync(join(folder, "files-"));
  const path = join(files, "all.yaml");
  const right = [consumer, provider("near"), route("one", "near"), route("two", "near")].join("---\n");
  writeFileSync(path, right.replace("name: near", "name: far"));
  await start("--store", `files:${files}`);
  await running.wrote("stderr", /no policy/);
  // Asking reads the files, and is no news.
  for (let asked = 0; asked < 3; asked++) await outrigger(["status"]);
  writeFileSync(path, right.replace("name: near", "name: other"));
  await running.wrote("stderr", /Known: other/);
  writeFileSync(path, right);
  await running.wrote("stderr", /no policy[\s\S]*no policy/);
  const { stderr } = await running.stop();
  const told = stderr
    .split("\n")
    .filter((line) => /all\.yaml/.test(line))
    .map((line) => JSON.parse(line));
  const both = (known: string) =>
    ["one", "two"].map((name) => expect.stringMatching(`all\\.yaml:\\d+:\\d+: error: ModelRoute default/${name}: .*${known}`));
  expect(told).toMatchObject([
    { severity: "error", problems: both("far") },
    { severity: "error", problems: both("other") },
  ]);
  await start();
});

test("a folder of files is policy, and what is applied is written to it", async () => {
  const files = join(folder, "policy");
  const control = startCommand([
    "-o",
    "json",
    "control",
    "--data",
    join(folder, "files-data"),
    "--port",
    "0",
    "--no-ops",
    "--store",
    `files:${files}`,
  ]);
  const [text] = await control.wrote("stdout", /^\{[\s\S]*^\}$/m);
  const { address, token: local }: { address: string; token: string } = JSON.parse(text);
  const environment = { OUTRIGGER_CONTROL: address, OUTRIGGER_CONTROL_TOKEN: local };
  const run = (...words: string[]) => runCommand(words, { environment });
  expect((await run("apply", "-f", file("a.yaml", provider("a")))).code).toBe(0);
  const written = join(files, "Provider/default.a.yaml");
  expect(readFileSync(written, "utf8")).toContain("endpoint: http://h:1");
  writeFileSync(written, readFileSync(written, "utf8").replace("h:1", "h:2"));
  expect((await run("dump")).stdout).toContain("http://h:2");
  expect((await run("revisions")).stdout).toMatch(/^2 .* files /m);
  writeFileSync(written, "kind: [");
  const refused = await run("apply", "-f", file("b.yaml", provider("b")));
  expect(refused).toMatchObject({ code: 1, stdout: expect.stringContaining(`${written}:1:8: error`) });
  expect((await run("dump")).stdout).toContain("http://h:2");
  await control.stop();
});

function fail(): never {
  throw new Error("there is such a transport");
}
