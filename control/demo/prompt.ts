/**
 * What a prompt is about, as far as counting words can tell. Made once for a request, used by everything that makes up an answer.
 */

/** What was found in a prompt. */
export interface Prompt {
  /** The words of the last user. */
  readonly text: string;
  /** Words that carry meaning, once each, as they were written and in their order. */
  readonly topics: readonly string[];
  /** Words with a capital that do not begin a sentence, or several in a row: people, towns, products. */
  readonly names: readonly string[];
  /** Names that stand in a row, as in "Paris, Rome and Oslo"; empty where none do. */
  readonly series: readonly string[];
  /** Numbers, in their order. */
  readonly numbers: readonly number[];
}

/** Finds out what a text is about. */
export function readPrompt(text: string): Prompt {
  // Prose beyond this adds nothing to what a few words can tell, and a prompt may have megabytes.
  const read = text.slice(0, 20_000);
  const topics = new Map<string, string>();
  for (const word of read.match(/\p{L}[\p{L}\p{M}'’-]*/gu) ?? []) {
    const key = word.toLowerCase();
    if (word.length > 2 && !emptyWords.has(key) && !openings.has(key) && !topics.has(key)) topics.set(key, word);
  }
  const names = [...new Set(namesIn(read))];
  return {
    text,
    topics: [...topics.values()],
    names,
    series: seriesIn(read, names),
    numbers: (read.match(/-?\d+(?:\.\d+)?/g) ?? []).map(Number).filter(Number.isFinite),
  };
}

/** The parts of a name such as `getWeatherNow` or `get_weather-now`, in lower case. */
export function wordsOfName(name: string): string[] {
  return name
    .replace(/(\p{Ll}|\d)(\p{Lu})/gu, "$1 $2")
    .toLowerCase()
    .split(/[^\p{L}\d]+/u)
    .filter((word) => word !== "");
}

/** Whether a word says nothing about a subject. Takes lower case. */
export function isEmptyWord(word: string): boolean {
  return emptyWords.has(word);
}

function namesIn(text: string): string[] {
  const found: string[] = [];
  for (const sentence of text.split(/(?<=[.!?:])\s+|\n+/)) {
    const run = /\p{Lu}[\p{L}\p{M}]+(?:[ -]\p{Lu}[\p{L}\p{M}]+)*/gu;
    for (const match of sentence.matchAll(run)) {
      const words = match[0].split(" ");
      if (match.index === 0) {
        // The first word of a sentence has its capital by rule. What directly follows an ordinary one may still be a name.
        if (words.length === 1) continue;
        if (isOrdinary(words[0] ?? "")) words.shift();
      }
      const name = words.join(" ");
      if (!emptyWords.has(name.toLowerCase())) found.push(name);
    }
  }
  return found;
}

function seriesIn(text: string, names: readonly string[]): string[] {
  let best: string[] = [];
  let run: string[] = [];
  let end = 0;
  for (const name of names) {
    const at = text.indexOf(name, end);
    const joins = /^\s*(?:,|&|,?\s*\b(?:and|or)\b)\s*(?:(?:in|for|of|from|to|at)\s+)?$/i.test(text.slice(end, at));
    run = run.length > 0 && joins ? [...run, name] : [name];
    if (run.length > best.length) best = run;
    end = at + name.length;
  }
  return best.length > 1 ? best : [];
}

function isOrdinary(word: string): boolean {
  return emptyWords.has(word.toLowerCase()) || openings.has(word.toLowerCase());
}

// Verbs and greetings with which prompts begin: what they ask for, not what they are about.
const openings = new Set(
  (
    "book calculate call check compare compute convert count create describe draw explain fetch find forecast give greet hello hey hi " +
    "list look order plan please query read reply say search send set show summarise summarize tell thanks translate use weather write"
  ).split(" "),
);

const emptyWords = new Set(
  (
    "a about above after again all also always am an and any anything are around as ask at away back be because been before being below " +
    "between both but by can cannot come could did do does doing done down each either else even ever every few for from further get " +
    "give go going good got had has have having he hello help her here hers hey hi him his how i if in into is it its itself just " +
    "know last less let like little long look made make many may me mean might mine more most much must my need never next no nor " +
    "not nothing now of off often ok okay on once one only or other our out over own please put quite rather really right said same say " +
    "see shall she should show since so some something soon still such take tell than thank thanks that the their them then there these " +
    "they thing things think this those three through to together too two under until up upon us use used using very want was way we " +
    "well went were what whatever when where whether which while who whom whose why will with within without word words would write " +
    "yes yet you your yours sentence sentences short answer question again today tomorrow yesterday don't i'm it's what's let's"
  ).split(" "),
);
