/** `outrigger chat` at a terminal: a person types, and the conversation goes on until they have enough. */
import { PassThrough } from "node:stream";
import { stripVTControlCharacters } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { chat } from "../control/cli/commands/chat.ts";
import { openTerminal } from "../control/cli/terminal.ts";
import type { World } from "../control/cli/world.ts";
import { type Running, startCommand } from "./kit/command.ts";

let demo: Running;
let address = "";

beforeAll(async () => {
  const running = startCommand(["-o", "json", "demo", "--port", "0", "--ops-port", "0"]);
  [, address = ""] = await running.wrote("stdout", /"address": "(http:\S+)"/);
  demo = running;
});
afterAll(() => demo.stop());

/** A terminal with somebody at it. */
class Person {
  readonly #stdin = Object.assign(new PassThrough(), { isTTY: true });
  readonly #stdout = new PassThrough();
  readonly #stderr = new PassThrough();
  #said = "";
  #remarks = "";
  #look: () => void = () => undefined;
  readonly ended: Promise<number>;

  constructor(system?: string) {
    this.#stdout.on("data", (piece: Buffer) => {
      this.#said += String(piece);
      this.#look();
    });
    this.#stderr.on("data", (piece: Buffer) => {
      this.#remarks += stripVTControlCharacters(String(piece));
      this.#look();
    });
    const world: World = {
      environment: {},
      stdin: this.#stdin,
      stdout: this.#stdout,
      stderr: this.#stderr,
      clock: { monotonicMs: () => performance.now(), wallMs: () => Date.now(), after: () => () => undefined },
      version: "0",
      command: "outrigger",
      stopped: () => new Promise(() => undefined),
      randomBytes: (count) => new Uint8Array(count),
    };
    const options = { address, key: undefined, model: "demo", system, maxTokens: undefined, prompt: "" };
    this.ended = chat(world, openTerminal(world, "table"), options);
  }

  /** Types a line, and waits until both what is said and what is remarked since then match. */
  async type(line: string, said: RegExp, remarked: RegExp): Promise<RegExpMatchArray> {
    this.#said = "";
    this.#remarks = "";
    this.#stdin.write(line);
    for (;;) {
      const match = remarked.exec(this.#remarks);
      if (match !== null && said.test(this.#said)) return match;
      await new Promise<void>((seen) => {
        this.#look = seen;
      });
    }
  }
}

/** What stands under an answer: how many tokens the model read. */
const footer = /· (\d+) in, \d+ out ·[\s\S]*> $/;

test("remembers what was said, forgets when told to, and changes the model", async () => {
  const person = new Person();
  const [, first] = await person.type("What is 6 * 7?\n", /^6 \* 7 = 42\.\n$/, footer);
  const [, second] = await person.type("What is 1 + 1?\n", /^1 \+ 1 = 2\.\n$/, footer);
  expect(Number(second)).toBeGreaterThan(Number(first) + 8);
  await person.type("/reset\n", /^$/, /> $/);
  const [, third] = await person.type("What is 6 * 7?\n", /42/, footer);
  expect(third).toBe(first);
  await person.type("/model demo:refusal\n", /^$/, /> $/);
  await person.type("What is 6 * 7?\n", /declines/, footer);
  await person.type("/help\n", /^$/, /There is \/model NAME, \/reset and \/exit\.[\s\S]*> $/);
  await person.type("/exit\n", /^$/, /exit/);
  expect(await person.ended).toBe(0);
});

test("a question that fails is told, and the conversation goes on as if it had not been asked", async () => {
  const person = new Person("Be brief.");
  const [, first] = await person.type("What is 6 * 7?\n", /42/, footer);
  await person.type("/model demo:500\n", /^$/, /> $/);
  await person.type("And now?\n", /^$/, /\(PROVIDER_FAILED\)[\s\S]*faults\.md#provider_failed[\s\S]*> $/);
  await person.type("/model demo\n", /^$/, /> $/);
  await person.type("/reset\n", /^$/, /> $/);
  const [, again] = await person.type("What is 6 * 7?\n", /42/, footer);
  expect(again).toBe(first);
  await person.type("\u0004", /^$/, /^/);
  expect(await person.ended).toBe(0);
});

test("Ctrl-C ends an answer that takes long, and at the prompt the conversation", async () => {
  const person = new Person();
  await person.type("/model demo:slow?ttft=0&gap=60000\n", /^$/, /> $/);
  await person.type("Why is the sea salt?\n", /\w/, /^/);
  await person.type("\u0003", /\n$/, /The call was cancelled\.[\s\S]*> $/);
  await person.type("\u0003", /^$/, /^/);
  expect(await person.ended).toBe(0);
});
