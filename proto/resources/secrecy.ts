/**
 * Which texts may be secrets, so that none is ever shown, and so that one that was written into policy is refused.
 */
import type { DescField } from "@bufbuild/protobuf";

/** Whether a field is marked in its proto as one whose value is never shown (`debug_redact`). */
export function isSensitive(field: DescField): boolean {
  return field.proto.options?.debugRedact === true;
}

/** Whether a text may stand in a message: it is not from a sensitive field and does not look like a secret. */
export function isShowable(text: string, sensitive = false): boolean {
  return !(sensitive || holdsKey(text) || looksRandom(text));
}

/** A text as it may be shown in a message: in quotes, shortened, and not at all if it may be a secret. */
export function shown(text: string): string {
  if (!isShowable(text)) return "(not shown)";
  // Of an address no more than scheme, host and path: user and query often hold a credential.
  const address = /^([a-z]+:\/\/)([^/?#]*@)?([^?#]*)/i.exec(text);
  if (address !== null && (address[2] !== undefined || address[0].length < text.length)) return `"${address[1]}${address[3]}" (shortened)`;
  // What stands in a message is read on a terminal; 64 characters name any value that a person wrote.
  const short = text.length > 64 ? `${text.slice(0, 64)}…` : text;
  return JSON.stringify(short);
}

/**
 * Whether a text holds what has the form of a key or token that issuers give so that it can be found: a few letters and a sign, then
 * a long run. Also tokens of RFC 7519 and PEM blocks. Names of accounts may look random without being secrets, and are not meant.
 */
export function holdsKey(text: string): boolean {
  return knownForm.test(text);
}

const knownForm = new RegExp(
  [
    "(?:^|[^A-Za-z0-9])(?:[a-z]?[srp]k|key|pat|tok|gh[pousr]|glpat|xox[abpr])[-_](?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,}",
    "(?:^|[^A-Za-z0-9])AIza[A-Za-z0-9_-]{30,}",
    "(?:^|[^A-Za-z0-9])A[KS]IA[A-Z0-9]{16}(?![A-Z0-9])",
    "(?:^|[^A-Za-z0-9])eyJ[A-Za-z0-9_-]{8,}[.][A-Za-z0-9_-]{8,}",
    "-----BEGIN ",
  ].join("|"),
);

/**
 * Whether a text looks as if chance had made it: long, without blanks, and its letters and digits change places as words do not.
 * For fields where a key may be written by mistake; a model's name with a date in it does not count.
 */
export function looksRandom(text: string): boolean {
  for (const run of text.split(/[^A-Za-z0-9+=]/)) {
    // Keys have at least 128 bits, which is 20 and more letters.
    if (run.length < 20) continue;
    let changes = 0;
    let digits = 0;
    for (let at = 0; at < run.length; at++) {
      const kind = kindOfLetter(run.charCodeAt(at));
      if (kind === 0) digits += 1;
      if (at > 0 && kind !== kindOfLetter(run.charCodeAt(at - 1))) changes += 1;
    }
    // In random text of two or three classes at least every third letter changes the class; in words and dates hardly any does.
    if (digits > 0 && changes * 4 >= run.length) return true;
  }
  return false;
}

/** 0 for digits and signs, 1 for small letters, 2 for capitals. */
function kindOfLetter(code: number): 0 | 1 | 2 {
  if (code >= 97) return 1;
  return code >= 65 ? 2 : 0;
}
