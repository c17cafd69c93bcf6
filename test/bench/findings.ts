/** What turned out wrong in a run, and whose it is: figures beside such a line are not to be believed. */
import { isPeer } from "./subjects/peers.ts";
import type { SubjectKey } from "./subjects/start.ts";

/** The findings of one run. */
export class Findings {
  /** Wrong with what is ours, or with what our figures are held against: the run fails. */
  readonly problems: string[] = [];
  /** What another gateway did not do, which fails nobody's run: its figures are what is missing. */
  readonly missing: string[] = [];

  /** Keeps what a subject did wrong, under the subject's name or its row's. */
  add(subject: SubjectKey, name: string, what: string): void {
    (isPeer(subject) ? this.missing : this.problems).push(`${name}: ${what}`);
  }
}
