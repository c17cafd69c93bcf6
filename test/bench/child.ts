/** Processes of a run: started on a core of their own, asked one thing at a time, ended with it. */
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";

/** What a process is started with. */
export interface ChildSettings {
  readonly command: string;
  readonly args: readonly string[];
  /** The core that all its threads stay on. */
  readonly core: number;
  /** The file that its output goes to. */
  readonly output: string;
  /** Whether it is one of ours, which answers messages. */
  readonly messages: boolean;
  readonly env?: Readonly<Record<string, string>>;
}

// No measurement takes longer.
const REPLY_MS = 60_000;

/** A running process. */
export class Child {
  readonly pid: number;
  readonly #process: ChildProcess;
  readonly #name: string;
  readonly #output: string;
  #exited = false;

  constructor(name: string, settings: ChildSettings) {
    this.#name = name;
    this.#output = settings.output;
    const output = openSync(settings.output, "a");
    // nice goes on with a warning where it may not; taskset and nice become the program, so the process id is the program's.
    const args = ["-n", "-20", "taskset", "-c", String(settings.core), settings.command, ...settings.args];
    this.#process = spawn("nice", args, {
      stdio: settings.messages ? ["ignore", output, output, "ipc"] : ["ignore", output, output],
      serialization: "advanced",
      env: { ...process.env, ...settings.env },
    });
    closeSync(output);
    this.#process.on("exit", () => {
      this.#exited = true;
    });
    if (this.#process.pid === undefined) throw new Error(`${name}: could not be started with ${settings.command}`);
    this.pid = this.#process.pid;
  }

  get exited(): boolean {
    return this.#exited;
  }

  /** The next message that the process sends, or the reply to a question. Fails if the process ends before, or takes a minute. */
  async reply<Reply>(question?: object): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const onExit = (code: number | null) => reject(new Error(`${this.#name} ended with code ${code}: ${this.#lastWords()}`));
      if (this.#exited) return onExit(this.#process.exitCode);
      const timer = setTimeout(() => reject(new Error(`${this.#name} did not answer for a minute: ${this.#lastWords()}`)), REPLY_MS);
      this.#process.once("exit", onExit);
      this.#process.once("message", (message) => {
        clearTimeout(timer);
        this.#process.off("exit", onExit);
        resolve(message as Reply);
      });
      if (question !== undefined) this.#process.send(question);
    });
  }

  /** The end of its output, where a failing program says why. */
  #lastWords(): string {
    return readFileSync(this.#output, "utf8").trim().slice(-2000);
  }

  /** Ends the process, and waits until it has. */
  async stop(): Promise<void> {
    if (this.#exited) return;
    const gone = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill("SIGTERM");
    // Nothing that is measured here has a reason to take longer.
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), 3000);
    await gone;
    clearTimeout(timer);
  }
}
