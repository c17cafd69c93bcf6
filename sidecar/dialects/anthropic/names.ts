/** Which names of tools this API takes. */
import type { NameForm } from "../toolNames.ts";

/** Letters, digits, `_` and `-`, at most 128 of them; the API refuses others. */
export const anthropicNames: NameForm = Object.freeze({
  fits: /^[a-zA-Z0-9_-]{1,128}$/,
  odd: /[^a-zA-Z0-9_-]/g,
  charactersMax: 128,
});
