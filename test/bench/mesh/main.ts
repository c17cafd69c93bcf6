/**
 * How fast policy reaches a fleet, and what a sidecar costs control.
 *
 * `npm run bench:mesh -- [sidecars] [--real | --light]` starts one control as a process and so many sidecars (2,000 unless given) in others,
 * each with an HTTP/2 connection of its own. Up to 2,000 are real ones unless said otherwise: the product's own client with all that it does
 * before it acknowledges (`sidecars/real.ts`); more of them take the machine from control, so beyond that they are light ones, which check
 * signatures and roots and compile nothing. Fifty sidecars share an account. Measured are: from a change that concerns everybody, or fifty,
 * to the acknowledgements; the same with one light sidecar in a hundred that reads nothing; all of them coming back after control was
 * killed; memory for each stream, and control's CPU while nothing happens. Times begin when the change is sent to control and so hold its
 * checks too. While the fleet is built control lets in more cold starts a second than it does by itself; from its restart on nothing is set.
 */
import { type ChildProcess, fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { PolicyService, RolloutMode } from "../../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { SidecarService } from "../../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";

/** What a process of sidecars is asked. */
export type SidecarsAsked =
  | {
      readonly is: "connect";
      readonly port: number;
      readonly perSecond: number;
      /** Whether they are real ones, and where these keep what they have. */
      readonly real: boolean;
      readonly folder: string;
      readonly sidecars: readonly { readonly instance: string; readonly account: string; readonly token: string }[];
    }
  | { readonly is: "stick"; readonly oneIn: number }
  | { readonly is: "tell" };

/** What happened there since it was asked last. Times are in milliseconds since 1970, with fractions. */
export interface SidecarsTold {
  acks: number[];
  resumes: number[];
  /** Attempts to open a stream. */
  dialled: number;
  lost: number;
  /** What their process has in memory. */
  rssBytes: number;
}

/** Sidecars of one account. */
const perAccount = 50;
/** Sidecars in one process; ten thousand connections in one would be limited by their reader. */
const perProcess = 2_500;
/** Real ones in one process: each of both cores has one beside control. */
const realPerProcess = 1_000;
/** How many are real ones unless said otherwise: more take the cores from control, and it is those that are measured then. */
const realMax = 2_000;
/** How often each change is measured. */
const rounds = 5;
/** Cold starts a second while the fleet is built: what two cores do beside the other end. Control is set to let in some more. */
const coldPerSecond = { light: 400, real: 100 } as const;

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { real: { type: "boolean" }, light: { type: "boolean" } } });
  const count = Number(positionals[0] ?? 2_000);
  const real = values.real === true || (values.light !== true && count <= realMax);
  const folder = mkdtempSync(join(process.env.OUTRIGGER_BENCH_FOLDER ?? "/dev/shm", "outrigger-bench-mesh-"));
  const children: ChildProcess[] = [];
  try {
    await measure(count, real, folder, children);
  } finally {
    for (const child of children) child.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measure(count: number, real: boolean, folder: string, children: ChildProcess[]): Promise<void> {
  const perSecond = real ? coldPerSecond.real : coldPerSecond.light;
  let control = await startControl(folder, 0, children, [String(perSecond * 2)]);
  const { port } = control;
  let asked = askAs(control);
  const accounts = Array.from({ length: Math.ceil(count / perAccount) }, (_, at) => `team-${at}`);
  await apply(asked, policyFor(accounts, 1, 1));
  const empty = await control.usage(true);

  const tokens = new Map<string, string>();
  for (const account of accounts) {
    const { token } = await asked.sidecars.createJoinToken({ namespace: "default", account, uses: perAccount });
    tokens.set(account, token);
  }
  const inProcess = real ? realPerProcess : perProcess;
  const groups: ChildProcess[] = [];
  for (let from = 0; from < count; from += inProcess) {
    const group = fork(join(import.meta.dirname, "sidecars/main.ts"));
    children.push(group);
    groups.push(group);
  }
  const beganMs = now();
  await Promise.all(
    groups.map((group, at) => {
      const mine = Array.from({ length: Math.min(inProcess, count - at * inProcess) }, (_, index) => at * inProcess + index);
      const sidecars = mine.map((number) => {
        const account = accounts[Math.floor(number / perAccount)] ?? "";
        return { instance: `sidecar-${number}`, account, token: tokens.get(account) ?? "" };
      });
      return ask(group, { is: "connect", port, perSecond: perSecond / groups.length, real, folder, sidecars });
    }),
  );
  await collect(groups, count, "acks", 600_000);
  const most = await control.usage();
  const full = await control.usage(true);
  const sidecarBytes = (await Promise.all(groups.map((group) => ask(group, { is: "tell" })))).reduce(
    (sum, { rssBytes }) => sum + rssBytes,
    0,
  );
  say(
    `${count} ${real ? "real" : "light"} sidecars of ${accounts.length} accounts were connected after ${seconds(now() - beganMs)}, at ${perSecond} a second ` +
      `(control was set to let in ${perSecond * 2}); they have ${megabytes(sidecarBytes)} in ${groups.length} processes`,
  );
  say(
    `memory: ${megabytes(full.rssBytes)} resident after a collection (${megabytes(most.rssBytes)} before), ${megabytes(empty.rssBytes)} without sidecars: ` +
      `${kilobytes((full.rssBytes - empty.rssBytes) / count)} for each, of which ${kilobytes((full.heapBytes - empty.heapBytes) / count)} in the heap`,
  );

  await sleep(2_000);
  const idleBefore = await control.usage();
  await sleep(10_000);
  const idleAfter = await control.usage();
  say(`while nothing happens: ${((idleAfter.cpuMs - idleBefore.cpuMs) / 100).toFixed(1)} % of a core`);

  let version = 1;
  const change = async (name: string, concerned: number, expected: number, isGlobal: boolean): Promise<void> => {
    const firsts: number[] = [];
    const medians: number[] = [];
    const p99s: number[] = [];
    const lasts: number[] = [];
    const cpu: number[] = [];
    for (let round = 0; round < rounds; round++) {
      version += 1;
      const before = await control.usage();
      const sentMs = now();
      await apply(asked, isGlobal ? policyFor(accounts, version, version) : policyFor(accounts, version, globalVersion));
      if (isGlobal) globalVersion = version;
      const acks = (await collect(groups, expected, "acks", 60_000)).times.map((atMs) => atMs - sentMs).toSorted((a, b) => a - b);
      const after = await control.usage();
      firsts.push(quantile(acks, 0));
      medians.push(quantile(acks, 0.5));
      p99s.push(quantile(acks, 0.99));
      lasts.push(quantile(acks, 1));
      cpu.push(after.cpuMs - before.cpuMs);
      await sleep(500);
    }
    const shown = [firsts, medians, p99s, lasts].map((values) => `${Math.round(median(values))}`);
    say(
      `${name} (${concerned} concerned): first ${shown[0]} ms, median ${shown[1]} ms, 99 % ${shown[2]} ms, last ${shown[3]} ms; ` +
        `control's CPU ${Math.round(median(cpu))} ms (medians of ${rounds}; worst last ${Math.round(Math.max(...lasts))} ms)`,
    );
  };
  let globalVersion = 1;
  await change("a change for all", count, count, true);
  await change("a change for one account", Math.min(perAccount, count), Math.min(perAccount, count), false);

  // Control is killed and comes back with the same data: everybody has what they need.
  await collect(groups, 0, "resumes", 0);
  const killedMs = now();
  control.kill();
  await sleep(2_000);
  control = await startControl(folder, port, children);
  asked = askAs(control);
  const listensMs = now();
  const { times, dialled } = await collect(groups, count, "resumes", 120_000);
  const resumes = times.map((atMs) => atMs - listensMs).toSorted((a, b) => a - b);
  const back = await control.usage();
  say(
    `control killed, back after ${seconds(listensMs - killedMs)}: of ${resumes.length} sidecars half had resumed ${seconds(quantile(resumes, 0.5))} after it ` +
      `listened, 99 % after ${seconds(quantile(resumes, 0.99))}, the last after ${seconds(quantile(resumes, 1))}; ` +
      `${(dialled / count).toFixed(1)} attempts each since it was killed; control's CPU ${seconds(back.cpuMs)}`,
  );
  await sleep(2_000);
  await change("the same after that", count, count, true);

  // A real one stops reading only with its whole process.
  if (!real) await changeBesideStuck();
  const used = await control.usage(true);
  say(`memory at the end: ${megabytes(used.rssBytes)} resident`);

  async function changeBesideStuck(): Promise<void> {
    await Promise.all(groups.map((group) => ask(group, { is: "stick", oneIn: 100 })));
    const well = count - groups.reduce((sum, _, at) => sum + Math.ceil(Math.min(inProcess, count - at * inProcess) / 100), 0);
    await change("a change for all, one in a hundred reads nothing", count, well, true);
  }
}

interface Running {
  readonly port: number;
  readonly token: string;
  usage(collect?: boolean): Promise<{ readonly rssBytes: number; readonly heapBytes: number; readonly cpuMs: number }>;
  kill(): void;
}

async function startControl(folder: string, port: number, children: ChildProcess[], more: readonly string[] = []): Promise<Running> {
  const child = fork(join(import.meta.dirname, "control/main.ts"), [folder, String(port), ...more], { execArgv: ["--expose-gc"] });
  children.push(child);
  const told = await nextMessage<{ port: number; token: string }>(child);
  return {
    ...told,
    usage(collect = false) {
      child.send({ collect });
      return nextMessage(child);
    },
    kill: () => child.kill("SIGKILL"),
  };
}

function nextMessage<Message>(child: ChildProcess): Promise<Message> {
  return new Promise((resolve, reject) => {
    const ended = (): void => reject(new Error("a process has ended"));
    child.once("exit", ended);
    child.once("message", (message) => {
      child.off("exit", ended);
      resolve(message as Message);
    });
  });
}

async function ask(group: ChildProcess, asked: SidecarsAsked): Promise<SidecarsTold> {
  group.send(asked);
  return nextMessage<SidecarsTold>(group);
}

/** What sidecars told: when something happened to each, and how often they have dialled meanwhile. */
interface Collected {
  readonly times: readonly number[];
  readonly dialled: number;
}

/** Gathers what sidecars tell until there is enough of it. Throws if that takes too long. */
async function collect(groups: readonly ChildProcess[], enough: number, what: "acks" | "resumes", withinMs: number): Promise<Collected> {
  const untilMs = now() + withinMs;
  const times: number[] = [];
  let dialled = 0;
  for (;;) {
    for (const told of await Promise.all(groups.map((group) => ask(group, { is: "tell" })))) {
      times.push(...told[what]);
      dialled += told.dialled;
    }
    if (times.length >= enough) return { times, dialled };
    if (now() > untilMs) throw new Error(`${times.length} of ${enough} ${what} came within ${withinMs / 1000} s`);
    await sleep(50);
  }
}

function askAs({ port, token }: Running) {
  const transport = createGrpcTransport({
    baseUrl: `http://127.0.0.1:${port}`,
    interceptors: [
      (next) => (request) => {
        request.header.set("authorization", `Bearer ${token}`);
        return next(request);
      },
    ],
  });
  return { policy: createClient(PolicyService, transport), sidecars: createClient(SidecarService, transport) };
}

async function apply({ policy }: ReturnType<typeof askAs>, text: string): Promise<void> {
  const { applied, problems } = await policy.applyResources({ texts: [{ path: "policy.yaml", text }], rollout: RolloutMode.AT_ONCE });
  if (!applied) throw new Error(`the policy was not applied: ${problems.map(({ message }) => message).join(" ")}`);
}

/** A route and a consumer for each account; `first` is a fact of the first account's alone, `all` one of the provider that all use. */
function policyFor(accounts: readonly string[], first: number, all: number): string {
  const head = `
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: shared, labels: {version: "${all}"}}
spec: {openai: {}, timeouts: {call: 60s}}
`;
  const parts = accounts.map(
    (account, at) => `---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: ${account}}
spec: {match: {models: [fast, ${account}], consumers: [${account}]}, targets: [{provider: shared, model: v${at === 0 ? first : 0}}]}
---
apiVersion: outrigger.dev/v1alpha1
kind: Consumer
metadata: {name: ${account}}
spec: {identities: [{apiKey: {sha256: "${at.toString(16).padStart(64, "0")}"}}]}
---
apiVersion: outrigger.dev/v1alpha1
kind: SidecarGrant
metadata: {name: ${account}}
spec: {sidecars: [{account: ${account}}], routes: [${account}]}
`,
  );
  return [head, ...parts].join("");
}

function now(): number {
  return performance.timeOrigin + performance.now();
}

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

function median(values: readonly number[]): number {
  return quantile(
    values.toSorted((a, b) => a - b),
    0.5,
  );
}

const say = (line: string): void => console.log(line);
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
const megabytes = (bytes: number): string => `${Math.round(bytes / 1e6)} MB`;
const kilobytes = (bytes: number): string => `${Math.round(bytes / 1e3)} kB`;

await main();
