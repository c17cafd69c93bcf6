/** The path of a request: what stands before the dialect's own end of it can name the model, and parameters can follow. */
import { Fault, FaultReason } from "../../proto/fault.ts";

/** Where an endpoint has the dialect's own path. */
export interface PathOptions {
  /** What stands before the dialect's own end of it; nothing if left out. `{model}` and `{+model}` stand for the model's name. */
  readonly pathPrefix?: string;
  /** Parameters of the address; none if left out. */
  readonly query?: Readonly<Record<string, string>>;
}

/** Makes what writes paths that end in `end`, such as `/chat/completions`, for the model that is asked. */
export function pathWriter({ pathPrefix = "", query = {} }: PathOptions, end: string): (model: string) => string {
  const pairs = Object.entries(query).map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`);
  const tail = end + (pairs.length === 0 ? "" : `?${pairs.join("&")}`);
  const pieces = pathPrefix.split(/(\{\+?model\})/);
  if (pieces.length === 1) {
    const path = pathPrefix + tail;
    return () => path;
  }
  return function writePath(model) {
    let path = "";
    for (const piece of pieces) {
      if (piece === "{model}") path += step(model, model);
      else if (piece === "{+model}")
        path += model
          .split("/")
          .map((part) => step(part, model))
          .join("/");
      else path += piece;
    }
    return path + tail;
  };
}

/**
 * One step of a path. A caller may choose the model's name, and a name that means "here" or "above" (RFC 3986 section 5.2.4) would make
 * of it a request for something else, with the platform's credential.
 */
function step(part: string, model: string): string {
  if (part === "" || part === "." || part === "..") {
    const message = `The model's name ${JSON.stringify(model.slice(0, 100))} cannot stand in the provider's address.`;
    throw new Fault(FaultReason.REQUEST_INVALID, message, { field: "model" });
  }
  try {
    return encodeURIComponent(part);
  } catch {
    // Half of a surrogate pair has no encoding.
    throw new Fault(FaultReason.REQUEST_INVALID, "The model's name is no text.", { field: "model" });
  }
}
