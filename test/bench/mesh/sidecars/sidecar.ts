/** A sidecar as the bench has many of them, real or light. */

/** What happens to a sidecar. */
export type Happened = { readonly is: "acked"; readonly resumed: boolean } | { readonly is: "dialled" } | { readonly is: "lost" };

/** One sidecar. */
export interface BenchSidecar {
  /** Begins to dial, and to dial again. */
  start(): void;
  /** Reads nothing any more, as a process that hangs; undefined where only the whole process could. */
  readonly stick: (() => void) | undefined;
}
