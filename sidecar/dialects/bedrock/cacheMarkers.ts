/** Cache markers: requests to keep a prompt's beginning, each a block of its own behind what it belongs to. */
import type { CacheMarker } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { RawJson } from "../../framing/json.ts";
import type { Report } from "../report.ts";
import type { Block } from "./writeMedia.ts";

/** How many the models that know them take in one request. */
const markersMax = 4;

/** Writes and counts the markers of one request. A marker is a hint, so one that cannot be sent is left out and reported. */
export class CacheMarkers {
  readonly #known: boolean;
  readonly #report: Report;
  #count = 0;

  /** `known`: whether the model takes markers at all. */
  constructor(known: boolean, report: Report) {
    this.#known = known;
    this.#report = report;
  }

  /** Adds a marker, if there is one, behind the last of some blocks; `field` names it in reports. */
  add(blocks: (Block | RawJson)[], marker: CacheMarker | undefined, field: string): void {
    if (marker === undefined) return;
    const before = blocks.at(-1);
    // A marker on blank text asks to keep all that stands before it, which a marker there says already.
    if (before === undefined || (!(before instanceof RawJson) && isMarker(before))) return;
    if (!this.#known) {
      this.#report.dropped(field, "The model keeps no prompt that it is asked to keep, so the cache marker was left out.");
    } else if (this.#count === markersMax) {
      this.#report.dropped(field, `The cache marker was left out: the model takes ${markersMax} of them at most.`);
    } else {
      this.#count++;
      blocks.push({ cachePoint: { type: "default", ttl: marker.ttl === "" ? undefined : marker.ttl } });
    }
  }
}

/** Whether a block is a marker. */
export function isMarker(block: Block): boolean {
  return block.cachePoint !== undefined;
}
