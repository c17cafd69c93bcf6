/**
 * Seals of thinking, which only the dialect that made them can read, on their way through callers that know none but this one.
 *
 * A signature of another dialect goes out with that dialect's name before it, so that it finds its way back to where it came from
 * when the caller sends the conversation again. This dialect's own seals are base64 and have no colon.
 */

/** A seal and the dialect that made it. */
export interface Seal {
  readonly dialect: string;
  readonly text: string;
}

/** The seal as a caller shows it. */
export function readSeal(shown: string): Seal {
  const foreign = /^([a-z][a-z0-9-]{0,31}):/.exec(shown);
  if (foreign === null) return { dialect: "anthropic", text: shown };
  return { dialect: foreign[1] ?? "", text: shown.slice(foreign[0].length) };
}

/** The seal as a caller is shown it. */
export function showSeal({ dialect, text }: Seal): string {
  return dialect === "anthropic" || dialect === "" || text === "" ? text : `${dialect}:${text}`;
}
