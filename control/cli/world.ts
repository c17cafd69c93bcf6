/** What a command may ask of the machine it runs on. `main.ts` makes the real one; tests make others. */
import type { Readable, Writable } from "node:stream";
import type { Clock } from "../../sidecar/call.ts";

/** The machine, as commands see it. */
export interface World {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stdin: Readable & { readonly isTTY?: boolean };
  /** Results. */
  readonly stdout: Writable & { readonly isTTY?: boolean };
  /** Remarks for people. */
  readonly stderr: Writable & { readonly isTTY?: boolean };
  readonly clock: Clock;
  /** This build's version. */
  readonly version: string;
  /** What to type to run this command again, such as `npx outrigger`. */
  readonly command: string;
  /** Resolves when the process is asked to stop. Whoever never asks is stopped at once, as programs are. */
  stopped(): Promise<void>;
  /** That many unguessable bytes. */
  randomBytes(count: number): Uint8Array;
}

/** A command that could not do what it was asked; the message says what was seen and what was expected. */
export class Failure extends Error {
  /** What to do next, as a sentence, or undefined. */
  readonly next: string | undefined;
  readonly exitCode: number;

  constructor(message: string, next?: string, exitCode: number = ExitCode.error) {
    super(message);
    this.next = next;
    this.exitCode = exitCode;
  }
}

/** What the process ends with; scripts may rely on these. */
export const ExitCode = Object.freeze({
  ok: 0,
  error: 1,
  /** The command line could not be understood. */
  usage: 2,
  /** Something differs from what was expected. */
  drift: 3,
  /** A check found warnings and no errors. */
  checkWarning: 4,
});

/** Where control is unless somebody says otherwise: on this machine, at its own port. */
export const controlAddress = "127.0.0.1:7411";

/** Where Kubernetes puts what a pod asks its API server with. */
export const podFolder = "/var/run/secrets/kubernetes.io/serviceaccount";
