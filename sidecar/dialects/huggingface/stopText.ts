/**
 * Takes a stop text off an answer's end: this server gives it with the answer, others do not, and callers who parse what comes before it
 * expect none. It becomes known only with the last event, so that what could be a stop text's beginning is held back until more comes.
 */
export class StopText {
  readonly #stops: readonly string[];
  #held = "";

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop !== "");
  }

  /** Takes in a piece and returns what can be given on. */
  pass(piece: string): string {
    if (this.#stops.length === 0) return piece;
    const text = this.#held + piece;
    const held = Math.max(...this.#stops.map((stop) => overlap(text, stop)));
    this.#held = text.slice(text.length - held);
    return text.slice(0, text.length - held);
  }

  /** The answer is over: what was held back, and the stop text that it ended with if it did so at one. */
  end(atStop: boolean): { readonly text: string; readonly stop: string } {
    const held = this.#held;
    this.#held = "";
    const stop = atStop ? this.#stops.filter((each) => held.endsWith(each)).sort((one, other) => other.length - one.length)[0] : undefined;
    return stop === undefined ? { text: held, stop: "" } : { text: held.slice(0, held.length - stop.length), stop };
  }
}

/** How much of a text's end is the beginning of a stop text, or all of it. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
