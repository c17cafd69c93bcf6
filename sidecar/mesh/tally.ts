/** How a sidecar did since it was last asked: what staged roll-outs are judged by. Counts alone, so that a call costs next to nothing. */
import type { Duration } from "@bufbuild/protobuf/wkt";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { GrpcCodeName } from "../../proto/fault.ts";
import type { CallRecord } from "../filters/record.ts";

/** What a tally says. */
export interface Tallied {
  readonly calls: bigint;
  readonly failedCalls: bigint;
  readonly blockedCalls: bigint;
  /** Undefined if no call had content. */
  readonly firstContentP50?: Duration;
}

/** Counts calls. */
export interface Tally {
  count(record: CallRecord): void;
  /** What was counted since the last time. */
  take(): Tallied;
}

/** Places of the histogram of first contents: the n-th holds those below 2^(n/4) ms, so that it is right within a fifth up to 5 min. */
const places = 74;

/** Codes that say that the caller, or policy about the caller, was the reason: the sidecar did what it should. */
const callersOwn: ReadonlySet<GrpcCodeName> = new Set<GrpcCodeName>([
  "CANCELLED",
  "INVALID_ARGUMENT",
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
  "NOT_FOUND",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "OUT_OF_RANGE",
  "ALREADY_EXISTS",
]);

/** Begins to count. */
export function openTally(): Tally {
  let calls = 0;
  let failed = 0;
  let blocked = 0;
  let contents = 0;
  const histogram = new Uint32Array(places);
  return {
    count({ fault, firstContentMs }) {
      calls += 1;
      if (fault !== undefined) {
        if (fault.kind.name === "GUARD_BLOCKED") blocked += 1;
        else if (!callersOwn.has(fault.kind.code)) failed += 1;
      }
      if (firstContentMs !== undefined) {
        contents += 1;
        const place = Math.min(Math.max(Math.ceil(4 * Math.log2(Math.max(firstContentMs, 1))), 0), places - 1);
        histogram[place] = (histogram[place] ?? 0) + 1;
      }
    },
    take() {
      const tallied = { calls: BigInt(calls), failedCalls: BigInt(failed), blockedCalls: BigInt(blocked) };
      const median = medianOf(histogram, contents);
      calls = failed = blocked = contents = 0;
      histogram.fill(0);
      return median === undefined ? tallied : { ...tallied, firstContentP50: durationFromMs(Math.round(median)) };
    },
  };
}

function medianOf(histogram: Uint32Array, count: number): number | undefined {
  let below = 0;
  for (let place = 0; place < histogram.length; place++) {
    below += histogram[place] ?? 0;
    if (below > 0 && below * 2 >= count) return 2 ** (place / 4);
  }
  return undefined;
}
