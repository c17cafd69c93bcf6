/**
 * Writes a few sentences about what was asked. It knows nothing; it is polite about it, takes up the words of the prompt, and does the
 * few things that people try first: greet, add up, repeat a phrase, make a list, write so many words.
 */
import type { Prompt } from "./prompt.ts";
import type { Seeded } from "./seeded.ts";

/** What else the answer should take up. */
export interface Occasion {
  /** What the user sent beside words, such as "an image (image/png, 68 bytes)". */
  readonly attachments: readonly string[];
  /** What tools returned since the user spoke. */
  readonly toolResults: readonly { readonly name: string; readonly text: string }[];
}

/** An answer in plain sentences. */
export function writeProse(prompt: Prompt, occasion: Occasion, random: Seeded): string {
  const sentences: string[] = [];
  if (occasion.attachments.length > 0) {
    sentences.push(`You sent ${joined(occasion.attachments)}; a demo model cannot look inside, but it arrived whole.`);
  }
  if (occasion.toolResults.length > 0) {
    for (const result of occasion.toolResults) sentences.push(`${result.name} says: ${shortened(result.text)}`);
    sentences.push(random.pick(["That answers your question.", "That is all that the tools found.", "With that you can go on."]));
    return sentences.join(" ");
  }
  const direct = directAnswer(prompt);
  if (direct !== undefined) return [...sentences, direct].join(" ");
  const list = listLength(prompt.text);
  if (list > 0) return [...sentences, writeList(prompt, list, random)].join(" ");
  const words = wantedWords(prompt.text);
  sentences.push(opening(prompt, random));
  const chain = new Chain(random);
  const sentencesWanted = 2 + random.below(2);
  for (let count = 0; words > 0 ? wordCount(sentences) < words : count < sentencesWanted; count += 1) {
    sentences.push(withSubject(chain.sentence(), prompt, random));
  }
  return sentences.join(" ");
}

/** What a model might think before it answers: `steps` sentences. */
export function writeThoughts(prompt: Prompt, steps: number, random: Seeded): string {
  const about = prompt.topics.length === 0 ? "something without a subject" : joined(prompt.topics.slice(0, 3));
  const thoughts = [`The user asks about ${about}.`];
  for (let step = 1; step < steps; step += 1) {
    const topic = prompt.topics.length === 0 ? "this" : random.pick(prompt.topics);
    thoughts.push(random.pick(thoughtShapes).replace("{}", topic));
  }
  return thoughts.join(" ");
}

/** Some kilobytes of prose that ends in a line break, so that it can be repeated as often as an answer should be long. */
export function longParagraph(random: Seeded): string {
  const chain = new Chain(random);
  const sentences: string[] = [];
  // Four kilobytes: about what a provider's network read brings at full speed.
  for (let size = 0; size < 4096; size += (sentences.at(-1) ?? "").length + 1)
    sentences.push(chain.sentence().replaceAll("{}", "the answer"));
  return `${sentences.join(" ")}\n`;
}

function opening(prompt: Prompt, random: Seeded): string {
  const { topics, text } = prompt;
  if (topics.length === 0) return "I am the demo model: ask me anything, and I will answer with confidence and without knowledge.";
  const about = joined(topics.slice(0, 3));
  const [first = "that"] = topics;
  const asked = /\b(what|why|how|when|where|who)\b/i.exec(text)?.[1]?.toLowerCase();
  switch (asked) {
    case "why":
      return `The short reason has to do with ${about}.`;
    case "how":
      return `Start with ${first}, in small steps, and check each one before the next.`;
    case "when":
      return `${capital(first)} takes as long as it takes; a demo model has no calendar.`;
    case "where":
      return `Look where ${about} would be expected least, and then where it would be expected most.`;
    case "who":
      return `Several people have a good claim to ${about}; a demo model knows none of them.`;
    case "what":
      return `In a few words: ${about}.`;
    default:
      return random.pick([`You asked about ${about}.`, `Here is a thought on ${about}.`, `Let us take ${about} one at a time.`]);
  }
}

/** Answers that need no invention. */
function directAnswer(prompt: Prompt): string | undefined {
  const text = prompt.text.trim();
  const phrase =
    /\b(?:reply|respond|answer) with(?: exactly| only| just| nothing but)*:?\s+["“”']?(.+?)["“”']?\s*$/is.exec(text)?.[1] ??
    /\b(?:repeat(?: after me)?|say(?: exactly)?):\s*["“”']?(.+?)["“”']?\s*$/is.exec(text)?.[1] ??
    /^say\s+["“”'](.+?)["“”'][.!]?$/is.exec(text)?.[1];
  if (phrase !== undefined) return phrase;
  const sum = /(-?\d{1,9}(?:\.\d{1,6})?)\s*([-+*×x/÷])\s*(-?\d{1,9}(?:\.\d{1,6})?)/.exec(text);
  if (sum !== null) {
    const [, left = "", sign = "", right = ""] = sum;
    const result = calculate(Number(left), sign, Number(right));
    if (result !== undefined) return `${left} ${sign} ${right} = ${result}.`;
  }
  if (/^\s*(hi|hello|hey|good (morning|day|evening)|moin|hallo|bonjour|hola)\b[\s\p{P}]*/iu.test(text) && prompt.topics.length === 0) {
    return "Hello! I am the demo model. I need no key and no network, and I give the same answer to the same question.";
  }
  if (/^\s*(thanks|thank you|danke|merci|gracias)\b/i.test(text)) return "You are welcome.";
  return undefined;
}

function calculate(left: number, sign: string, right: number): string | undefined {
  const result = sign === "+" ? left + right : sign === "-" ? left - right : sign === "/" || sign === "÷" ? left / right : left * right;
  // Twelve digits hide the dust of binary fractions and keep what nine digits times nine digits can fill.
  return Number.isFinite(result) ? String(Number(result.toPrecision(12))) : undefined;
}

function listLength(text: string): number {
  const wanted = /\b(?:list|name|give me|suggest)\b[^.?!\d]{0,40}?\b(\d{1,2}|two|three|four|five|six|seven|eight|nine|ten)\b/i.exec(
    text,
  )?.[1];
  if (wanted === undefined || /\bwords\b/i.test(text)) return 0;
  const digits = Number(wanted);
  return Number.isNaN(digits) ? 2 + "two three four five six seven eight nine ten".split(" ").indexOf(wanted.toLowerCase()) : digits;
}

function writeList(prompt: Prompt, length: number, random: Seeded): string {
  const chain = new Chain(random);
  const lines = [`${capital(prompt.topics.length === 0 ? "things" : joined(prompt.topics.slice(0, 2)))}:`];
  for (let number = 1; number <= length; number += 1) lines.push(`${number}. ${withSubject(chain.sentence(), prompt, random)}`);
  return lines.join("\n");
}

function wantedWords(text: string): number {
  const wanted = Number(/\b(\d{1,5})[ -]words?\b/i.exec(text)?.[1] ?? 0);
  return Math.min(wanted, 5_000); // more than anyone reads of a demo; `demo:long` is for testing length
}

function wordCount(sentences: readonly string[]): number {
  return sentences.reduce((sum, sentence) => sum + sentence.split(" ").length, 0);
}

function withSubject(sentence: string, prompt: Prompt, random: Seeded): string {
  const filled = sentence.replaceAll("{}", () => (prompt.topics.length === 0 ? "it" : random.pick(prompt.topics.slice(0, 6))));
  return capital(filled);
}

function shortened(text: string): string {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length > 400 ? `${line.slice(0, 399)}…` : /[.!?]$/.test(line) ? line : `${line}.`;
}

function capital(text: string): string {
  return text.replace(/^\p{Ll}/u, (letter) => letter.toUpperCase());
}

function joined(words: readonly string[]): string {
  return words.length < 2 ? (words[0] ?? "") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** Makes sentences by walking from word to word along sentences that somebody wrote, changing over where two of them share three words. */
class Chain {
  readonly #random: Seeded;
  readonly #next = new Map<string, string[]>();
  readonly #said = new Set<string>();

  constructor(random: Seeded) {
    this.#random = random;
    for (const sentence of corpus) {
      const words = ["", "", "", ...sentence.split(" "), ""];
      for (let at = 3; at < words.length; at += 1) {
        const key = `${words[at - 3]} ${words[at - 2]} ${words[at - 1]}`;
        const followers = this.#next.get(key);
        if (followers === undefined) this.#next.set(key, [words[at] ?? ""]);
        else followers.push(words[at] ?? "");
      }
    }
  }

  /** One sentence, in which `{}` stands for the subject; one that was not said yet, if luck allows. */
  sentence(): string {
    // Eight draws: the corpus is small, and an answer of hundreds of words cannot help saying something twice.
    for (let draw = 0; draw < 8; draw += 1) {
      const sentence = this.#walk();
      if (this.#said.has(sentence)) continue;
      this.#said.add(sentence);
      return sentence;
    }
    return this.#walk();
  }

  #walk(): string {
    const words: string[] = [];
    let [first, second, third] = ["", "", ""];
    // Sixty words: the walk could go in circles, and no sentence should.
    while (words.length < 60) {
      const word = this.#random.pick(this.#next.get(`${first} ${second} ${third}`) ?? [""]);
      if (word === "") break;
      words.push(word);
      [first, second, third] = [second, third, word];
    }
    return words.join(" ");
  }
}

const thoughtShapes = [
  "What matters about {} is what the user will do with the answer.",
  "I could say more about {}, but a short answer serves better.",
  "If {} were missing, the question would be a different one.",
  "I should name {} and keep the order of the question.",
  "Nothing I know about {} can be checked, so I will not claim much.",
];

const corpus = [
  "{} is easier to understand once you look at what goes in and what comes out.",
  "{} is easier to change once you know who depends on it.",
  "the best way to learn about {} is to try a small example and change one thing at a time.",
  "the best way to explain {} is to show what happens without it.",
  "most people who work with {} start with a small example and then measure.",
  "most people who work with {} know what goes in and forget what comes out.",
  "what makes {} hard is not the idea but the exceptions.",
  "what makes {} pleasant is that a small example is enough to see what happens.",
  "if you measure {} before and after a change, you will know what the change was worth.",
  "if you look at {} from the other side, the exceptions turn out to be the idea.",
  "in practice {} works best with a clear goal and a short list of exceptions.",
  "in practice {} turns out to be a question of what you leave out.",
  "a good rule for {} is to keep what can be checked and to leave out the rest.",
  "a good rule for {} is to change one thing at a time and then measure.",
  "the rest is a question of patience, and of a short list that somebody keeps.",
  "the rest is easier once you know what happens at the edges of {}.",
];
