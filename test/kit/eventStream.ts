/** A reader of server-sent events for tests: short, slow, written from the standard, and sharing nothing with the one that ships. */

/** One dispatched event. */
export interface StreamEvent {
  /** The name, `message` where none was given. */
  readonly event: string;
  readonly data: string;
}

/** Reads a whole body (https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.6). */
export function readEventStream(body: string): StreamEvent[] {
  const events: StreamEvent[] = [];
  let name = "";
  let data: string[] = [];
  for (const line of body.replace(/^\ufeff/, "").split(/\r\n|\r|\n/)) {
    if (line === "") {
      if (data.length > 0) events.push({ event: name === "" ? "message" : name, data: data.join("\n") });
      name = "";
      data = [];
      continue;
    }
    const colon = line.indexOf(":");
    if (colon === 0) continue;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") name = value;
    else if (field === "data") data.push(value);
  }
  return events;
}
