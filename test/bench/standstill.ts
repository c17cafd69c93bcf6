/**
 * When the provider's counts may be read: not while calls that nobody waits for any more are still under way to it. A subject that was
 * left with a queue goes on to send it, and its calls would be counted as the next row's.
 */

/** Counts that stood still, or did not in all the time that they were given. */
export interface Standing<Counts> {
  readonly counts: Counts;
  readonly still: boolean;
}

const POLL_MS = 10;
/** Calls that are on their way arrive within a few milliseconds, also through a sidecar that collects garbage first. */
export const STILL_MS = 50;
/** No row leaves a queue that takes longer to empty. */
export const PATIENCE_MS = 10_000;

/**
 * Reads counts until the number of requests has been the same for so long. `known` is the number at which they stood when last read: if
 * nothing has come since, they are read once.
 */
export async function standstill<Counts extends { readonly requests: number }>(
  read: () => Promise<Counts>,
  wait: (ms: number) => Promise<unknown>,
  known: number | undefined,
): Promise<Standing<Counts>> {
  let counts = await read();
  let sameMs = counts.requests === known ? STILL_MS : 0;
  for (let waitedMs = 0; sameMs < STILL_MS; waitedMs += POLL_MS) {
    if (waitedMs >= PATIENCE_MS) return { counts, still: false };
    await wait(POLL_MS);
    const next = await read();
    sameMs = next.requests === counts.requests ? sameMs + POLL_MS : 0;
    counts = next;
  }
  return { counts, still: true };
}
