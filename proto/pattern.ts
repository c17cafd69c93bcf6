/**
 * Patterns of model names: text in which `*` stands for anything, also nothing.
 */

/** Whether a pattern has a `*`, so that it is more than one name. */
export function isPattern(pattern: string): boolean {
  return pattern.includes("*");
}

/** How exactly a pattern names what it fits: a name without `*` most of all, then the more letters the more exactly. */
export function exactness(pattern: string): number {
  if (!isPattern(pattern)) return Number.POSITIVE_INFINITY;
  return pattern.length - pattern.split("*").length + 1;
}

/** Makes the test of one pattern. It takes time in proportion to the name for each piece between stars, whatever the name. */
export function matcher(pattern: string): (name: string) => boolean {
  const pieces = pattern.split("*");
  if (pieces.length === 1) return (name) => name === pattern;
  const first = pieces[0] ?? "";
  const last = pieces.at(-1) ?? "";
  const between = pieces.slice(1, -1).filter((piece) => piece !== "");
  return (name) => {
    if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last)) return false;
    const end = name.length - last.length;
    let at = first.length;
    for (const piece of between) {
      // The leftmost place leaves the most room for the pieces after it, so no other needs to be tried.
      const found = name.indexOf(piece, at);
      if (found < 0 || found + piece.length > end) return false;
      at = found + piece.length;
    }
    return true;
  };
}
