/**
 * What is wrong with policy, as a value: where it stands, what was seen, what was expected, and what to do.
 */

/** Names of everything that can be wrong. They are stable, so that a pipeline can allow or forbid one by its name. */
export type ProblemId =
  // What stands in one file.
  | "policy/unreadable-file"
  | "policy/no-resources"
  | "policy/too-large"
  | "policy/syntax"
  | "policy/duplicate-key"
  | "policy/too-deep"
  | "policy/too-many"
  // What stands in one resource.
  | "policy/unknown-api-version"
  | "policy/unknown-kind"
  | "policy/unknown-field"
  | "policy/unknown-value"
  | "policy/wrong-type"
  | "policy/empty-value"
  | "policy/bad-number"
  | "policy/bad-text"
  | "policy/bad-duration"
  | "policy/bad-time"
  | "policy/more-than-one"
  | "policy/missing-field"
  | "policy/rule"
  | "policy/inline-secret"
  | "policy/reserved-header"
  | "policy/hash-of-nothing"
  // What resources say of each other.
  | "policy/duplicate-resource"
  | "policy/unknown-reference"
  | "policy/contradiction"
  | "policy/ambiguous-route"
  | "policy/duplicate-api-key"
  | "policy/duplicate-anonymous"
  | "policy/duplicate-price"
  // What a secret's reference points to.
  | "policy/secret-unavailable"
  // What a sidecar cannot make a policy of.
  | "policy/not-compiled"
  // What a change does beside what it says.
  | "policy/other-owner"
  // What a sidecar of this build has never heard of.
  | "policy/not-understood"
  // What nobody has vouched for whom a sidecar believes.
  | "policy/not-vouched"
  // What no build has.
  | "policy/unknown-row"
  | "policy/no-endpoint"
  | "policy/no-region"
  // What is allowed and probably not meant.
  | "policy/unused-provider"
  | "policy/unreachable-route"
  | "policy/idle-consumer"
  | "policy/no-consumer"
  | "policy/empty-grant"
  | "policy/anonymous-consumer"
  | "policy/plain-http"
  | "policy/no-credential"
  | "policy/timeout-order"
  | "policy/unpriced-model"
  | "policy/unused-price";

/** One thing that is wrong. Its texts are safe to show: they never repeat a value that may be a secret. */
export interface Problem {
  readonly id: ProblemId;
  /** An error refuses the policy; a warning does not. */
  readonly severity: "error" | "warning";
  /** The resource's kind, or empty when it is not known. */
  readonly kind: string;
  /** The resource's namespace and name, such as `default/fast`, or empty when they are not known. */
  readonly name: string;
  /** Where in the resource, such as `spec.targets[1].provider`, or empty for the whole. Names are those of the proto. */
  readonly field: string;
  /** What was seen and what was expected. */
  readonly message: string;
  /** What to do about it, or empty if the message says so. */
  readonly hint: string;
  /** The file, if the resource came from one. */
  readonly file?: string;
  /** The line, from 1. */
  readonly line?: number;
  /** The column in UTF-16 units, from 1. */
  readonly column?: number;
}

/** A place in a text, both counted from 1; the column in UTF-16 units. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

/** A problem as one line of text, such as `policy.yaml:12:5: error: ModelRoute default/fast: spec.match: … [policy/missing-field]`. */
export function problemText(problem: Problem): string {
  const place =
    problem.file === undefined
      ? ""
      : problem.line === undefined
        ? `${problem.file}: `
        : `${problem.file}:${problem.line}:${problem.column}: `;
  const subject = [problem.kind, problem.name].filter((part) => part !== "").join(" ");
  const parts = [subject, problem.field].filter((part) => part !== "").map((part) => `${part}: `);
  const hint = problem.hint === "" ? "" : ` ${problem.hint}`;
  return `${place}${problem.severity}: ${parts.join("")}${problem.message}${hint} [${problem.id}]`;
}

/** Orders problems as a reader meets them: by file, then place, then name; those without a place come last. */
export function compareProblems(a: Problem, b: Problem): number {
  return (
    compareText(a.file ?? "\uffff", b.file ?? "\uffff") ||
    (a.line ?? Number.MAX_SAFE_INTEGER) - (b.line ?? Number.MAX_SAFE_INTEGER) ||
    (a.column ?? 0) - (b.column ?? 0) ||
    compareText(a.kind, b.kind) ||
    compareText(a.name, b.name) ||
    compareText(a.field, b.field) ||
    compareText(a.id, b.id)
  );
}

/** Orders text by its UTF-16 units, so that the order is the same on every machine and in every language. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
