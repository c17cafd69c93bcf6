/** Runs rows: provider, generator and subjects as processes, one measurement at a time, each compared with what provider and log saw. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { checkAnswer } from "./check.ts";
import { Child } from "./child.ts";
import { residentBytes } from "./cpu.ts";
import type { CrossCheck } from "./crossCheck.ts";
import { crossCheck } from "./crossCheck.ts";
import type { Asked, DoorKey } from "./doors.ts";
import { wayOf, wireOf } from "./doors.ts";
import { Findings } from "./findings.ts";
import type { Ask, Hold, HoldResult, Job, JobResult, Wire } from "./job.ts";
import type { PipelineCosts } from "./pipeline/main.ts";
import type { ProviderCounts } from "./provider/main.ts";
import type { Row } from "./rows.ts";
import { PATIENCE_MS, standstill } from "./standstill.ts";
import type { Peers, Subject, SubjectKey } from "./subjects/start.ts";
import { direct, startSubject } from "./subjects/start.ts";

/** Where a run takes place. */
export interface Bed {
  readonly folder: string;
  /** The core of generator and provider, and the core of the subject. */
  readonly loadCore: number;
  readonly subjectCore: number;
  /** Where other gateways were installed. */
  readonly peers: Peers;
  /** Where subjects of ours are, compiled or as they were written, and those of another checkout, if one is measured too. */
  readonly built: string;
  readonly builtBefore: string | undefined;
}

/** How long a measurement takes. */
export interface Lengths {
  readonly warmMs: number;
  readonly windowMs: number;
  /** Paced streams need longer: a stream lasts two seconds. */
  readonly pacedWindowMs: number;
  readonly rateWindowMs: number;
}

/** One measurement of a row. */
export interface Measured extends JobResult {
  readonly ratePerS: number;
  /** Whether other processes took more than a tenth of the subject's core in every attempt. */
  readonly disturbed: boolean;
  /** How often it was repeated for that. */
  readonly repeats: number;
}

// Time of other processes on the subject's core, as a share of the window, beyond which a measurement is repeated; and how often.
const OTHERS_MAX = 0.1;
const ATTEMPTS_MAX = 3;

/** A run's processes. */
export class Bench {
  /** By the name of the instance, see `instanceOf`. */
  readonly subjects = new Map<string, Subject>();
  readonly findings = new Findings();
  readonly #bed: Bed;
  readonly #provider: Child;
  readonly #load: Child;
  readonly #providerPort: number;
  #starts = 0;
  /** The provider's requests when last they stood still. */
  #stoodAt: number | undefined;
  /** Complete answers by instance, to be compared with its log. */
  readonly #answered = new Map<string, number>();

  static async start(bed: Bed): Promise<Bench> {
    mkdirSync(bed.folder, { recursive: true });
    const ours = (name: string) =>
      new Child(name, {
        command: process.execPath,
        args: [join(import.meta.dirname, name, "main.ts")],
        core: bed.loadCore,
        output: join(bed.folder, `${name}.log`),
        messages: true,
      });
    const provider = ours("provider");
    const { port } = await provider.reply<{ port: number }>();
    // The clients that check answers are loaded and compiled before anything is timed.
    const asked: Asked = { answer: "unary", promptBytes: 600, family: "gpt" };
    await checkAnswer("openai", asked, wireOf("openai", asked), port);
    return new Bench(bed, provider, ours("load"), port);
  }

  private constructor(bed: Bed, provider: Child, load: Child, providerPort: number) {
    this.#bed = bed;
    this.#provider = provider;
    this.#load = load;
    this.#providerPort = providerPort;
    this.subjects.set("direct", direct(providerPort, provider));
  }

  /**
   * Starts an instance of a subject and asks it once, through the door and for the model that `first` names: what an instance has seen
   * once, its code is compiled for. Returns how long it took from its spawn to that answer, in milliseconds.
   */
  async startSubject(key: Exclude<SubjectKey, "direct">, name: string = key, first: First = firstOf(key)): Promise<number> {
    await this.stopSubject(name);
    const startedMs = performance.now();
    const subject = await startSubject(key, {
      folder: join(this.#bed.folder, `${name.replace(" ", "-")}-${this.#starts++}`),
      core: this.#bed.subjectCore,
      providerPort: this.#providerPort,
      peers: this.#bed.peers,
      built: this.#bed.built,
      builtBefore: this.#bed.builtBefore,
    });
    this.subjects.set(name, subject);
    const asked: Asked = { answer: "unary", promptBytes: 600, family: first.asked.family };
    await this.#checkOnce(first.door, asked, subject, first.http);
    this.#answered.set(name, 1);
    return performance.now() - startedMs;
  }

  /** Starts what a row measures. Returns false if it runs already; fails, and leaves nothing running, where it does not answer. */
  async startFor(row: Row): Promise<boolean> {
    const name = instanceOf(row);
    if (row.subject === "direct" || this.subjects.has(name)) return false;
    try {
      await this.startSubject(row.subject, name, row);
      return true;
    } catch (error) {
      await this.stopSubject(name);
      throw error;
    }
  }

  async stopSubject(name: string): Promise<void> {
    await this.subjects.get(name)?.stop();
    this.subjects.delete(name);
  }

  /** Measures a row once; again, up to so many attempts, if others disturbed it. */
  async measure(row: Row, ratePerS: number, seed: number, lengths: Lengths, attemptsMax = ATTEMPTS_MAX): Promise<Measured> {
    const subject = this.#subject(row);
    let best: JobResult | undefined;
    let wrong: readonly string[] = [];
    let repeats = -1;
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      repeats++;
      const { result, problems } = await this.#once(row, subject, ratePerS, seed, lengths);
      if (best === undefined || result.otherUs + result.stolenUs < best.otherUs + best.stolenUs) {
        best = result;
        wrong = problems;
      }
      // A direct call has no subject: its core is the one that all of the load runs on.
      if (subject.key === "direct" || !isDisturbed(result)) break;
    }
    if (best === undefined) throw new Error("nothing was measured");
    for (const what of wrong) this.findings.add(row.subject, row.id, what);
    return { ...best, ratePerS, disturbed: subject.key !== "direct" && isDisturbed(best), repeats };
  }

  async #once(
    row: Row,
    subject: Subject,
    ratePerS: number,
    seed: number,
    lengths: Lengths,
  ): Promise<{ result: JobResult; problems: string[] }> {
    const wire = wireFor(row, subject);
    const paced = row.load.kind === "paced";
    // At a fixed rate calls must never wait for a connection: as many are opened as there are calls waiting.
    const { connections, streams } =
      row.load.kind === "rate" ? { connections: row.http === 2 ? 4 : 512, streams: row.http === 2 ? 100 : 1 } : row.load;
    const job: Job = {
      wire,
      port: row.http === 2 ? subject.port.http2 : subject.port.http1,
      connections,
      streams,
      ratePerS,
      seed,
      spreadMs: paced ? 1000 : 0,
      warmMs: paced ? 1200 : lengths.warmMs * subject.patience,
      windowMs: paced ? lengths.pacedWindowMs : row.load.kind === "rate" ? lengths.rateWindowMs : lengths.windowMs * subject.patience,
      pids: subject.pids(),
      core: subject.key === "direct" ? this.#bed.loadCore : this.#bed.subjectCore,
      loadCore: this.#bed.loadCore,
    };
    const before = await this.#standing(row);
    const running = this.#load.reply<JobResult>({ ask: "run", job } satisfies Ask);
    const checks = this.#check(row, subject, job.warmMs + job.windowMs / 2);
    const [result, failedCheck] = await Promise.all([running, checks]);
    const after = await this.#standing(row);
    this.#counted(row, result.callsAll + 1);
    const problems = compared(row, subject, result, after.requests - before.requests, connections * streams);
    if (subject.exchangesKeys && after.withProviderKey - before.withProviderKey !== after.requests - before.requests) {
      problems.push("the provider was not shown its key");
    }
    if (failedCheck !== undefined) problems.push(failedCheck);
    return { result, problems };
  }

  /** Decodes one answer with a real client in the middle of the window. Returns what was wrong with it. */
  async #check(row: Row, subject: Subject, afterMs: number): Promise<string | undefined> {
    await sleep(afterMs);
    // Paced streams last longer than the window; the same bytes were checked as a burst.
    if (typeof row.asked.answer === "number") return undefined;
    try {
      await this.#checkOnce(row.door, row.asked, subject, row.http);
      return undefined;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  async #checkOnce(door: DoorKey, asked: Asked, subject: Subject, http: 1 | 2): Promise<void> {
    const port = http === 2 && door === "grpc" ? subject.port.http2 : subject.port.http1;
    await checkAnswer(door, asked, withHeaders(wireOf(door, asked), subject.headers), port, subject.rewrites);
  }

  /** What the provider counted, once no call of before is under way to it. */
  async #standing(row: Row): Promise<ProviderCounts> {
    const { counts, still } = await standstill(() => this.#provider.reply<ProviderCounts>({}), sleep, this.#stoodAt);
    if (!still) this.findings.add(row.subject, row.id, `the provider was asked for ${PATIENCE_MS / 1000} s without any load`);
    this.#stoodAt = counts.requests;
    return counts;
  }

  /** Compares every subject's log with the answers it gave. */
  async compareLogs(): Promise<void> {
    // Logs are written in pieces, every second at the latest.
    await sleep(1500);
    for (const [name, subject] of this.subjects) {
      const lines = subject.logged();
      const answered = this.#answered.get(name) ?? 0;
      if (lines !== undefined && lines < answered) {
        this.findings.add(subject.key, name, `${answered} answers, but ${lines} lines in its log`);
      }
    }
  }

  /** What the filters cost by themselves, measured on the subject's core. */
  async pipelineCosts(): Promise<PipelineCosts> {
    const child = new Child("pipeline", {
      command: process.execPath,
      args: [join(import.meta.dirname, "pipeline/main.ts")],
      core: this.#bed.subjectCore,
      output: join(this.#bed.folder, "pipeline.log"),
      messages: true,
    });
    return child.reply<PipelineCosts>();
  }

  /** Loads a saturated row with another generator; undefined where that is not installed. */
  async crossCheck(row: Row, seconds: number): Promise<CrossCheck | undefined> {
    const subject = this.#subject(row);
    const before = await this.#standing(row);
    const found = await crossCheck({
      wire: wireFor(row, subject),
      port: row.http === 2 ? subject.port.http2 : subject.port.http1,
      pids: subject.pids(),
      core: this.#bed.loadCore,
      seconds,
      folder: this.#bed.folder,
    });
    if (found === undefined) return undefined;
    const asked = (await this.#standing(row)).requests - before.requests;
    if (asked < found.calls)
      this.findings.add(row.subject, row.id, `${found.tool} counted ${found.calls} answers, but the provider was asked ${asked} times`);
    this.#counted(row, found.calls);
    return found;
  }

  /** Resident memory of a subject while connections or streams are held open, in bytes; undefined if they could not be held. */
  async residentHolding(key: SubjectKey, hold: Omit<Hold, "port" | "wire">, row: Row | undefined): Promise<number | undefined> {
    const subject = this.subjects.get(key);
    if (subject === undefined) return undefined;
    const wire = row === undefined ? undefined : wireFor(row, subject);
    const port = row?.http === 2 ? subject.port.http2 : subject.port.http1;
    const result = await this.#load.reply<HoldResult>({ ask: "hold", hold: { ...hold, wire, port } } satisfies Ask);
    const wanted = hold.connections * (wire === undefined ? 1 : hold.streams);
    const bytes = residentBytes(subject.pids());
    await this.#load.reply<HoldResult>({ ask: "release" } satisfies Ask);
    if (result.held === wanted) return bytes;
    this.findings.add(key, key, `held ${result.held} of ${wanted}: ${result.reasons.join("; ")}`);
    return undefined;
  }

  /** Resident memory of a subject, in bytes: of the instance that has most, if there are several. */
  resident(key: SubjectKey): number | undefined {
    const found = [...this.subjects.values()].filter((subject) => subject.key === key);
    return found.length === 0 ? undefined : Math.max(...found.map((subject) => residentBytes(subject.pids())));
  }

  #counted(row: Row, answers: number): void {
    const name = instanceOf(row);
    this.#answered.set(name, (this.#answered.get(name) ?? 0) + answers);
  }

  #subject(row: Row): Subject {
    const subject = this.subjects.get(instanceOf(row));
    if (subject === undefined) throw new Error(`${instanceOf(row)} does not run`);
    return subject;
  }

  async stop(): Promise<void> {
    for (const name of [...this.subjects.keys()]) await this.stopSubject(name);
    await this.#load.stop();
    await this.#provider.stop();
  }
}

/** What is wrong with a measurement, given how often the provider was asked meanwhile and how many calls ran at once. */
export function compared(row: Row, subject: Pick<Subject, "key">, result: JobResult, asked: number, atOnce: number): string[] {
  const problems: string[] = [];
  // Streams at a pace are given up at the end, and may have reached the provider or not; all other calls are waited for. One was the check's.
  const most = result.callsAll + result.failed + result.unfinished + (row.load.kind === "paced" ? atOnce : 0) + 1;
  if (asked < result.callsAll || asked > most) problems.push(`${result.callsAll} answers, but the provider was asked ${asked} times`);
  if (result.failed > 0) problems.push(`${result.failed} calls failed: ${result.reasons.join("; ")}`);
  if (result.unfinished > 0) problems.push(`${result.unfinished} calls were not answered within two seconds of the window`);
  if (row.load.kind !== "paced" && result.calls === 0) problems.push(`${subject.key} answered no call in the window`);
  // Answers differ by ids and dates, which are few bytes; by more only if something is left out.
  if (result.bytesMax - result.bytesMin > 64 + result.bytesMax / 50)
    problems.push(`answers of ${result.bytesMin} to ${result.bytesMax} bytes`);
  return problems;
}

/** The door and the model that an instance is asked through and for when it was started. */
type First = Pick<Row, "door" | "asked" | "http">;

function firstOf(key: SubjectKey): First {
  const asked: Asked = { answer: "unary", promptBytes: 600, family: "gpt" };
  return { door: key === "connect-node" ? "connect-json" : "openai", asked, http: 1 };
}

/**
 * The process that serves a row. Subjects of ours have one for each door and format behind it: a pod's sidecar serves one application
 * with one SDK, and code that has seen all formats is slower for each.
 */
export function instanceOf({ subject, door, asked }: Row): string {
  return ofOneWay.has(subject) ? `${subject} ${wayOf(door, asked.family)}` : subject;
}

const ofOneWay: ReadonlySet<SubjectKey> = new Set<SubjectKey>(["bare", "outrigger", "before", "connect-node"]);

function isDisturbed(result: JobResult): boolean {
  return (result.otherUs + result.stolenUs) / result.windowUs > OTHERS_MAX;
}

/** A row's call as this subject wants it. */
function wireFor(row: Row, subject: Subject): Wire {
  const wire = withHeaders(wireOf(row.door, row.asked), subject.headers);
  return { ...wire, http: row.http };
}

function withHeaders(wire: Wire, headers: readonly string[]): Wire {
  return { ...wire, headers: [...wire.headers, ...headers] };
}
