/** Cache markers: requests to keep a prompt's beginning, of which this API takes at most four. */
import type { CacheMarker } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { JsonValue } from "../../framing/json.ts";
import type { Report } from "../report.ts";

/** How many this API takes in one request. */
const markersMax = 4;

/** Writes a marker, if there is one and room for it; `field` names it in reports. */
export function writeCacheMarker(
  marker: CacheMarker | undefined,
  field: string,
  markers: { count: number },
  report: Report,
): JsonValue | undefined {
  if (marker === undefined) return undefined;
  if (markers.count === markersMax) {
    report.unsupported(field, `: it takes ${markersMax} cache markers at most`);
    return undefined;
  }
  markers.count++;
  return marker.ttl === "" ? { type: "ephemeral" } : { type: "ephemeral", ttl: marker.ttl };
}
