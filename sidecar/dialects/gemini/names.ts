/** Which names of tools this API takes. */
import type { NameForm } from "../toolNames.ts";

/** Letters, digits, `_`, `.`, `:` and `-`, at most 64 of them, beginning with a letter or `_`; the API refuses others. */
export const geminiNames: NameForm = Object.freeze({
  fits: /^[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}$/,
  odd: /[^a-zA-Z0-9_.:-]/g,
  begins: /^[a-zA-Z_]/,
  charactersMax: 64,
});
