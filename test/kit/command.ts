/** Runs the `outrigger` command as a process of its own, as a person would. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";

/** What a command that came to its end left behind. */
export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that runs until it is stopped. */
export interface Running {
  /** Resolves with the first match of what it wrote so far and writes from now on; rejects if it ends before. */
  wrote(where: "stdout" | "stderr", pattern: RegExp): Promise<RegExpMatchArray>;
  /** Asks it to stop, and waits for its end. */
  stop(signal?: NodeJS.Signals): Promise<Ended>;
  readonly process: ChildProcess;
}

/** What a command finds around it. */
export interface Around {
  readonly input?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly folder?: string;
}

const main = join(import.meta.dirname, "../../control/cli/main.ts");

/** Runs a command to its end. */
export async function runCommand(words: readonly string[], around: Around = {}): Promise<Ended> {
  const running = startCommand(words, around);
  return running.ended;
}

/** Starts a command that goes on until it is stopped. */
export function startCommand(words: readonly string[], around: Around = {}): Running & { readonly ended: Promise<Ended> } {
  const child = spawn(process.execPath, [main, ...words], {
    cwd: around.folder ?? join(import.meta.dirname, "../.."),
    // Nothing of the machine's own environment: a key that happens to be there would change what is found.
    env: { PATH: process.env.PATH ?? "", NO_COLOR: "1", ...around.environment },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const written = { stdout: "", stderr: "" };
  const waiting = new Set<() => void>();
  let code: number | null | undefined;
  for (const where of ["stdout", "stderr"] as const) {
    child[where].setEncoding("utf8").on("data", (text: string) => {
      written[where] += text;
      for (const look of waiting) look();
    });
  }
  const ended = new Promise<Ended>((done) => {
    child.on("close", (value) => {
      code = value;
      for (const look of waiting) look();
      done({ code: value, ...written });
    });
  });
  child.stdin.on("error", () => undefined); // It may end without reading.
  child.stdin.end(around.input ?? "");
  return {
    process: child,
    ended,
    wrote: (where, pattern) =>
      new Promise((done, failed) => {
        const look = () => {
          const match = pattern.exec(written[where]);
          if (match === null && code === undefined) return;
          waiting.delete(look);
          if (match !== null) done(match);
          else failed(new Error(`it ended with ${code} and never wrote ${pattern}; it wrote: ${written.stdout}${written.stderr}`));
        };
        waiting.add(look);
        look();
      }),
    async stop(signal = "SIGTERM") {
      child.kill(signal);
      return ended;
    },
  };
}
