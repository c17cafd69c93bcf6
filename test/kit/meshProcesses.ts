/**
 * A whole mesh of real processes: control, sidecars, and a provider that says which policy sent it a call. Commands are run as people run
 * them; nothing is reached into.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { Agent, createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { PolicyService, RolloutMode } from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { SidecarService, type SidecarStatus } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";

const main = join(import.meta.dirname, "../../control/cli/main.ts");

/** How long anything that should be there soon may take on a machine that others use too. */
const patienceMs = 20_000;

/** What a provider was told by a call, and tells the caller. */
export interface Seen {
  /** The model's name, from the route. */
  readonly model: string;
  /** The header of the provider resource. */
  readonly revision: string;
  /** The provider's credential, as it came. */
  readonly key?: string;
}

/** A mesh. */
export class Mesh {
  readonly folder = mkdtempSync(join(tmpdir(), "outrigger-mesh-"));
  readonly #children = new Set<ChildProcess>();
  readonly #provider: Server;
  #control: Process | undefined;
  #controlOrigin = "";
  #words: readonly string[] = [];
  token = "";
  providerOrigin = "";

  constructor() {
    this.#provider = createServer((incoming, outgoing) => {
      let body = "";
      incoming.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      incoming.on("end", () => {
        const { model } = JSON.parse(body) as { readonly model: string };
        const content = JSON.stringify({ model, revision: incoming.headers["x-revision"], key: incoming.headers.authorization });
        const choices = [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }];
        outgoing.setHeader("content-type", "application/json");
        outgoing.end(JSON.stringify({ id: "1", object: "chat.completion", created: 1, model, choices }));
      });
    });
  }

  /** Starts the provider and control. */
  async open(words: readonly string[] = []): Promise<void> {
    this.#words = words;
    await new Promise<void>((done) => {
      this.#provider.listen(0, "127.0.0.1", done);
    });
    this.providerOrigin = `http://127.0.0.1:${(this.#provider.address() as AddressInfo).port}`;
    await this.startControl();
  }

  /** Starts control, at the port that it had before. */
  async startControl(): Promise<void> {
    const words = ["control", "--data", join(this.folder, "control"), "--port", this.#port, "--no-ops", "--local-token"];
    this.#control = this.#start(["-o", "json", ...words, ...this.#words]);
    const { address, token } = JSON.parse(await this.#control.wrote(/^\{[\s\S]*?^\}$/m)) as {
      readonly address: string;
      readonly token: string;
    };
    this.#controlOrigin = address.replace("127.0.0.1", address.startsWith("https:") ? "localhost" : "127.0.0.1");
    this.token = token;
  }

  /** Kills control as nothing that could say goodbye. */
  async killControl(): Promise<void> {
    await this.#control?.end("SIGKILL");
  }

  get controlOrigin(): string {
    return this.#controlOrigin;
  }

  get #port(): string {
    return this.#controlOrigin === "" ? "0" : new URL(this.#controlOrigin).port;
  }

  /** Control's own authority, in PEM, without its key. */
  get authority(): string {
    const text = readFileSync(join(this.folder, "control", "authority.pem"), "utf8");
    return text.slice(text.indexOf("-----BEGIN CERTIFICATE-----"));
  }

  policy(): Client<typeof PolicyService> {
    return createClient(PolicyService, this.#transport());
  }

  sidecars(): Client<typeof SidecarService> {
    return createClient(SidecarService, this.#transport());
  }

  /** Applies policy from YAML, and returns its revision. Throws if it is refused. */
  async apply(text: string): Promise<number> {
    const texts = [{ path: "policy.yaml", text }];
    const { applied, revision, problems } = await this.policy().applyResources({ texts, rollout: RolloutMode.AT_ONCE });
    if (!applied) throw new Error(`refused: ${problems.map(({ field, message }) => `${field}: ${message}`).join("; ")}`);
    return Number(revision);
  }

  /** Makes a token that lets sidecars of an account in. */
  async joinToken(account: string, uses: number): Promise<string> {
    return (await this.sidecars().createJoinToken({ namespace: "default", account, uses })).token;
  }

  /** Starts a sidecar with a join token and a state folder of its own, which it finds again under the same name. */
  startSidecar(name: string, token: string, more: readonly string[] = [], control = this.controlOrigin): Promise<SidecarUnderTest> {
    return this.startSidecarWith(name, ["--join-token", token, "--instance", name, ...more], control);
  }

  /** Starts a sidecar with what proves who it is among the words. */
  async startSidecarWith(name: string, proof: readonly string[], control = this.controlOrigin): Promise<SidecarUnderTest> {
    const state = join(this.folder, name);
    const ports = ["--port", "0", "--ops-port", "0"];
    const words = ["sidecar", "--control", control, "--state", state, ...ports, "--boot-grace", "1", "--log-format", "json", ...proof];
    const process = this.#start(["-o", "json", ...words]);
    const said = JSON.parse(await process.wrote(/^\{[\s\S]*?^\}$/m)) as { readonly address: string; readonly operations: string };
    return new SidecarUnderTest(name, state, said.address, said.operations, process);
  }

  /** What control knows of a sidecar. */
  async statusOf(name: string): Promise<SidecarStatus | undefined> {
    const { sidecars } = await this.sidecars().listSidecars({});
    return sidecars.find(({ instance }) => instance === name);
  }

  async close(): Promise<void> {
    for (const child of this.#children) child.kill("SIGKILL");
    this.#provider.closeAllConnections();
    await new Promise((done) => this.#provider.close(done));
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }

  #transport() {
    return createConnectTransport({
      baseUrl: this.controlOrigin,
      httpVersion: "1.1",
      nodeOptions: this.controlOrigin.startsWith("https:") ? { ca: this.authority } : {},
      interceptors: [
        (next) => (call) => {
          call.header.set("authorization", `Bearer ${this.token}`);
          return next(call);
        },
      ],
    });
  }

  #start(words: readonly string[]): Process {
    const child = spawn(process.execPath, [main, ...words], {
      env: { PATH: process.env.PATH ?? "", NO_COLOR: "1" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#children.add(child);
    child.on("close", () => this.#children.delete(child));
    return new Process(child);
  }
}

/** A command that runs. */
export class Process {
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;
  #stdout = "";
  #stderr = "";

  constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.#stdout += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
    });
    this.#ended = new Promise((done) => child.on("close", done));
  }

  get log(): string {
    return this.#stderr;
  }

  /** Waits until standard output has a match. */
  async wrote(pattern: RegExp): Promise<string> {
    let over = false;
    void this.#ended.then(() => {
      over = true;
    });
    return until(`${pattern} is written`, () => {
      if (over) throw new Error(`the command has ended; it wrote: ${this.#stdout}${this.#stderr}`);
      return pattern.exec(this.#stdout)?.[0];
    });
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    this.#child.kill(signal);
    await this.#ended;
  }
}

/** A sidecar that runs. */
export class SidecarUnderTest {
  readonly name: string;
  /** The folder in which it keeps what outlives it. */
  readonly state: string;
  readonly address: string;
  readonly #operations: string;
  readonly process: Process;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 64 });

  constructor(name: string, state: string, address: string, operations: string, process: Process) {
    this.name = name;
    this.state = state;
    this.address = address;
    this.#operations = operations;
    this.process = process;
  }

  /** Waits until it has a policy. */
  async ready(): Promise<void> {
    await until(`${this.name} is ready`, async () => {
      const why = await this.notReady();
      if (why !== "") throw new Error(`${why}${this.process.log}`);
      return true;
    });
  }

  /** Why it is not ready; empty if it is. */
  async notReady(): Promise<string> {
    const answer = await fetch(`${this.#operations}/readyz`);
    return answer.ok ? "" : answer.text();
  }

  /** A metric without labels. */
  async metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.#operations}/metrics`)).text();
    return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1] ?? Number.NaN);
  }

  /** Makes a call, and returns which policy sent it; throws if it failed in any way. */
  call(): Promise<Seen> {
    return new Promise((done, failed) => {
      const body = JSON.stringify({ model: "smart", messages: [{ role: "user", content: "hi" }] });
      const call = request(`${this.address}/v1/chat/completions`, {
        method: "POST",
        agent: this.#agent,
        headers: { "content-type": "application/json" },
      });
      call.on("response", (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (piece: string) => {
          text += piece;
        });
        response.on("end", () => {
          if (response.statusCode !== 200) failed(new Error(`${this.name} answered ${response.statusCode}: ${text}`));
          else done(JSON.parse(JSON.parse(text).choices[0].message.content) as Seen);
        });
        response.on("error", failed);
      });
      call.on("error", failed);
      call.end(body);
    });
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    this.#agent.destroy();
    await this.process.end(signal);
  }
}

/** Policy in which provider and route say the same number, so that a call which sees two policies says two. */
export function policyOf(providerOrigin: string, number: number): string {
  return `
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: p}
spec: {openai: {}, endpoint: "${providerOrigin}/v1", headers: {x-revision: "${number}"}}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: smart}
spec: {match: {models: [smart]}, targets: [{provider: p, model: "${number}"}]}
---
apiVersion: outrigger.dev/v1alpha1
kind: Consumer
metadata: {name: anyone}
spec: {identities: [{anonymous: {}}]}
---
apiVersion: outrigger.dev/v1alpha1
kind: SidecarGrant
metadata: {name: all}
spec: {sidecars: [{account: chat}], routes: ["*"]}
`;
}

/** Waits until something is there. */
export async function until<Value>(what: string, look: () => Value | undefined | Promise<Value | undefined>): Promise<Value> {
  const endMs = performance.now() + patienceMs;
  let last: unknown;
  while (performance.now() < endMs) {
    try {
      const value = await look();
      if (value !== undefined) return value;
    } catch (error) {
      last = error;
      if (error instanceof Error && error.message.startsWith("the command has ended")) throw error;
    }
    await sleep(20);
  }
  throw new Error(`${what}: not within ${patienceMs} ms`, { cause: last });
}
