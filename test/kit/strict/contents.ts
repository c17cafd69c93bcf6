/**
 * A provider that keeps the rules of Gemini's newest models to the letter: contents alternate, results stand alone behind their calls, in
 * their order and under their names, and the first call of every turn carries the thought signature that was given with it, or the value
 * that stands for a lost one; so must calls that another model made. It answers 400 to anything else.
 */
import type { ReplayAnswer, SeenRequest } from "../replay.ts";
import type { Json } from "./messages.ts";
import { resultOf, type Script, toolNames, wordsOf } from "./toolLoop.ts";

const skip = "skip_thought_signature_validator";

/** The provider: one conversation, in which it gives two calls a turn, under the same ids or none. `key` is the credential that it knows. */
export class StrictContents {
  readonly #script: Script;
  readonly #key: string;
  readonly #signatures = new Map<number, string>();
  /** Turns with signatures. */
  readonly sealed = new Set<number>();
  /** Turns of its own whose signature did not come back. */
  readonly lost = new Set<number>();

  constructor(script: Script, key: string) {
    this.#script = script;
    this.#key = key;
  }

  answer({ body, headers, path }: Pick<SeenRequest, "body" | "headers" | "path">): ReplayAnswer & { readonly status: number } {
    const asked: Json = JSON.parse(body.toString());
    const wrong = headers["x-goog-api-key"] === this.#key ? this.#wrong(asked.contents) : "the key";
    if (wrong !== undefined) {
      const error = { code: 400, status: "INVALID_ARGUMENT", message: `Wrong: ${wrong}` };
      return { status: 400, headers: { "content-type": "application/json" }, pieces: [JSON.stringify({ error })] };
    }
    const turn = this.#script.next();
    const { number, kind } = turn;
    const signature = Buffer.from(`signature of turn ${number}`).toString("base64");
    this.#signatures.set(number, signature);
    this.sealed.add(number);
    // Half of the time the provider gives ids, and always the same ones.
    const id = (name: string): object => (number % 2 === 0 ? { id: name } : {});
    const [first, ...others] = toolNames.map((name) => ({ functionCall: { name, args: { turn: number }, ...id(name) } }));
    const calls = kind === "calls" ? [{ ...first, thoughtSignature: signature }, ...others] : [];
    const parts: Json[] = [{ text: wordsOf(turn) }, ...calls];
    if (kind === "words") parts.push({ text: "", thoughtSignature: signature });
    if (!path.includes(":streamGenerateContent")) {
      const whole = { candidates: [{ content: { role: "model", parts }, finishReason: "STOP" }] };
      return { status: 200, headers: { "content-type": "application/json" }, pieces: [JSON.stringify(whole)] };
    }
    const chunks = [
      ...parts.map((part) => ({ candidates: [{ content: { role: "model", parts: [part] } }] })),
      { candidates: [{ finishReason: "STOP" }] },
    ];
    const pieces = chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\r\n\r\n`);
    return { status: 200, headers: { "content-type": "text/event-stream" }, pieces };
  }

  /** What of the rules a conversation breaks, or undefined. */
  #wrong(contents: Json[]): string | undefined {
    if (contents[0]?.role !== "user" || contents.at(-1)?.role !== "user") return "who speaks first or last";
    for (const [at, { role, parts }] of contents.entries()) {
      if (parts.length === 0) return `content ${at} is empty`;
      if (at > 0 && role === contents[at - 1].role) return `content ${at} does not alternate`;
      const calls = parts.filter((part: Json) => part.functionCall !== undefined);
      const results = parts.filter((part: Json) => part.functionResponse !== undefined);
      if (role === "model" ? results.length > 0 : calls.length > 0) return `content ${at} has parts of the other side`;
      if (results.length > 0 && results.length < parts.length) return `content ${at} has results beside other things`;
      const before = (contents[at - 1]?.parts ?? []).filter((part: Json) => part.functionCall !== undefined);
      if (results.length !== (role === "user" ? before.length : 0)) return `content ${at} has not one result for each call`;
      for (const [index, { functionResponse }] of results.entries()) {
        const { functionCall } = before[index];
        if (functionResponse.name !== functionCall.name || functionResponse.id !== functionCall.id)
          return `result ${index} of content ${at}`;
        if (functionResponse.response.output !== resultOf(functionCall.name, JSON.stringify(functionCall.args)))
          return `what result ${index} of content ${at} says`;
      }
      const broken = role === "model" ? this.#signed(at, parts, calls) : undefined;
      if (broken !== undefined) return broken;
    }
    return undefined;
  }

  #signed(at: number, parts: Json[], calls: Json[]): string | undefined {
    const [first, ...others] = calls;
    if (first === undefined) {
      // A signature of words may be left out, but none may be made up.
      const words = Number(/^So far (\d+)\.$/.exec(parts.map(({ text }) => text ?? "").join(""))?.[1]);
      const signature = parts.find((part) => part.thoughtSignature !== undefined)?.thoughtSignature;
      if (signature === undefined && this.#signatures.has(words)) this.lost.add(words);
      return signature === undefined || signature === this.#signatures.get(words) ? undefined : `the signature of content ${at}`;
    }
    if ([...others, ...parts.filter((part) => part.functionCall === undefined)].some((part) => part.thoughtSignature !== undefined))
      return `content ${at} has a signature too many`;
    const { turn } = first.functionCall.args;
    const given = this.#signatures.get(turn);
    if (first.thoughtSignature === skip && given !== undefined) this.lost.add(turn);
    return first.thoughtSignature === (given ?? skip) || first.thoughtSignature === skip ? undefined : `the signature of content ${at}`;
  }
}
