/**
 * Ids of tool calls as they are sent. The Converse API takes letters, digits, `_` and `-`, at most 64, and no id twice; the models of one
 * vendor take nine letters and digits and nothing else. Some models begin again from the same id in every turn, and some callers give
 * none, so an id means the latest call that has it and was not answered yet.
 */
export class CallIds {
  readonly #nineCharacters: boolean;
  readonly #sent = new Set<string>();
  /** The calls of the latest assistant's turn, by the id they had. */
  #turn = new Map<string, { readonly id: string; readonly order: number; answered: boolean }[]>();
  #order = 0;

  constructor(nineCharacters: boolean) {
    this.#nineCharacters = nineCharacters;
  }

  /** A new assistant's turn begins. */
  newTurn(): void {
    this.#turn = new Map();
    this.#order = 0;
  }

  /** The id to send for a call. */
  ofCall(id: string): string {
    const free = this.#free(id);
    this.#sent.add(free);
    const call = { id: free, order: this.#order++, answered: false };
    const calls = this.#turn.get(id);
    if (calls === undefined) this.#turn.set(id, [call]);
    else calls.push(call);
    return free;
  }

  /** The id to send for a result, and the place of its call; a result of no call stands last and says which id it meant. */
  ofResult(id: string): { readonly id: string; readonly order: number } {
    const calls = this.#turn.get(id);
    const call = calls?.find(({ answered }) => !answered) ?? calls?.at(-1);
    if (call === undefined) return { id: this.#plain(id, 0), order: Number.MAX_SAFE_INTEGER };
    call.answered = true;
    return call;
  }

  #free(id: string): string {
    for (let n = 0; ; n++) {
      const candidate = this.#plain(id, n);
      if (!this.#sent.has(candidate)) return candidate;
    }
  }

  /** The id in the characters that are taken; `n` makes another one of it. */
  #plain(id: string, n: number): string {
    if (this.#nineCharacters) return n === 0 && /^[A-Za-z0-9]{9}$/.test(id) ? id : nineCharacters(`${id} ${n}`);
    const plain = id.replace(/[^a-zA-Z0-9_-]/g, "_") || "call";
    return n === 0 && plain.length <= 64 ? plain : `${plain.slice(0, 54)}_${n + 1}`;
  }
}

/** Nine letters and digits that follow from a text (FNV-1a, 32 bits, over the text and over its reverse). */
function nineCharacters(text: string): string {
  let forward = 0x811c9dc5;
  let backward = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) {
    forward = Math.imul(forward ^ text.charCodeAt(at), 0x01000193) >>> 0;
    backward = Math.imul(backward ^ text.charCodeAt(text.length - 1 - at), 0x01000193) >>> 0;
  }
  return `${forward.toString(36).padStart(7, "0").slice(-5)}${backward.toString(36).padStart(7, "0").slice(-4)}`;
}
