/** Words for how much a model should think, from none to the most. Each server knows some of them. */

/** The known word nearest to the one that is asked, the stronger of two; the word itself where all are known, or where it is none of ours. */
export function nearestEffort(asked: string, known: readonly string[]): string {
  if (known.length === 0 || known.includes(asked)) return asked;
  const place = efforts.indexOf(asked);
  if (place === -1) return asked;
  let nearest = asked;
  let least = Number.POSITIVE_INFINITY;
  for (const word of known) {
    const distance = Math.abs(efforts.indexOf(word) - place);
    const stronger = efforts.indexOf(word) > efforts.indexOf(nearest);
    if (!efforts.includes(word) || distance > least || (distance === least && !stronger)) continue;
    nearest = word;
    least = distance;
  }
  return nearest;
}

const efforts: readonly string[] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
