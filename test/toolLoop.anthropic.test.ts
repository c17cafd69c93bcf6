/**
 * Twenty turns of tool calls with thinking through the plain OpenAI SDK, against a provider that keeps the rules of the Messages API to
 * the letter and answers 400 to anything else. The SDK knows nothing of thinking, so what comes back of it comes from the sidecar.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Replay, type SeenRequest, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";
import { type Json, StrictMessages } from "./kit/strict/messages.ts";
import { type Application, converse, converseWithRestart, keepAll, keepPlain, Script } from "./kit/strict/toolLoop.ts";

const turns = 20;
const secrets = { open: "a", ant: "b" };

let replay: Replay;
let house: TestSidecar;

/** Models that think by a number of tokens, and models that think as they see fit. */
const models = ["claude-sonnet-4-5", "claude-opus-4-6"];

function policy(): string {
  const more = models.map(
    (model) => `---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: ${model}}
spec: {match: {models: [${model}]}, targets: [{provider: ant-provider}]}
`,
  );
  return policyFor(replay.origin, { more: more.join("") });
}

beforeAll(async () => {
  replay = await startReplay();
  house = await startTestSidecar(policy(), secrets, { logLevel: "silent" });
});
afterAll(async () => {
  await house.close();
  await replay.close();
});

function newProvider(): StrictMessages {
  const provider = new StrictMessages(new Script(turns), "b");
  replay.answerWith((request) => provider.answer(request));
  return provider;
}

function application(changes: Partial<Application> = {}): Application {
  return { model: "claude-sonnet-4-5", stream: false, keep: keepPlain, origin: () => house.origin, effort: "low", ...changes };
}

describe.each(models)("%s", (model) => {
  test.each([true, false])(
    "a client that knows nothing of thinking is never refused and loses none of it, streaming: %s",
    async (stream) => {
      const provider = newProvider();
      expect(await converse(application({ model, stream }))).toBe(turns + 1);
      expect(provider.rules).toMatchObject({ lost: new Set(), thoughtless: 0 });
    },
  );
});

test("a client that gives messages back as it got them loses nothing either", async () => {
  const provider = newProvider();
  expect(await converse(application({ keep: keepAll }))).toBe(turns + 1);
  expect(provider.rules).toMatchObject({ lost: new Set(), thoughtless: 0 });
});

test("metrics say what is kept", async () => {
  const fresh = await startTestSidecar(policy(), secrets, { logLevel: "silent" });
  try {
    const provider = newProvider();
    await converse(application({ origin: () => fresh.origin }));
    for (let asked = 0; asked < 2; asked++) {
      const metrics = await (await fetch(`${fresh.opsOrigin}/metrics`)).text();
      const value = (name: string): number => Number(new RegExp(`^${name} (\\d+)$`, "m").exec(metrics)?.[1]);
      expect(value("outrigger_sealed_turns")).toBe(provider.rules.sealed.size);
      expect(value("outrigger_sealed_turns_kept_total")).toBe(provider.rules.sealed.size);
      expect(value("outrigger_sealed_turns_forgotten_total")).toBe(0);
      expect(value("outrigger_sealed_bytes")).toBeGreaterThan(500 * provider.rules.sealed.size);
    }
  } finally {
    await fresh.close();
  }
});

test("where nothing is kept, the model does not think in the middle of its work, and no request is refused", async () => {
  const forgetful = await startTestSidecar(policy(), secrets, { logLevel: "silent", sealedBytesMax: 0 });
  try {
    const provider = newProvider();
    const dropped: (string | null)[] = [];
    const seen = (headers: Headers): void => void dropped.push(headers.get("x-outrigger-dropped-params"));
    expect(await converse(application({ origin: () => forgetful.origin, seen }))).toBe(turns + 1);
    // Work begins anew with the first turn and behind the two turns of words; there the model thinks.
    expect(provider.rules.thoughtless).toBe(turns + 1 - 3);
    expect([...provider.rules.lost]).toEqual([1, 8, 15]);
    expect(dropped.flatMap((names, at) => (names === "reasoning" ? [] : at + 1))).toEqual([1, 8, 15]);
  } finally {
    await forgetful.close();
  }
});

test.each([
  // The work of turns 8 to 13 is cut in two: its second half goes on without thinking. In the next one the model thinks again.
  ["claude-sonnet-4-5", 4],
  ["claude-opus-4-6", 0],
] as const)(
  "a sidecar that starts again in the middle has lost what was before, and the conversation goes on: %s",
  async (model, thoughtless) => {
    const provider = newProvider();
    const start = (): Promise<TestSidecar> => startTestSidecar(policy(), secrets, { logLevel: "silent" });
    expect(await converseWithRestart(start, 11, application({ model }))).toBe(turns + 1);
    expect(provider.rules.thoughtless).toBe(thoughtless);
    expect(Math.max(...provider.rules.lost)).toBe(10);
  },
);

/** A real conversation, broken in one way each: the provider must see it, or it proves nothing. */
test("the provider refuses what breaks its rules", async () => {
  const provider = new StrictMessages(new Script(turns), "b");
  const requests: SeenRequest[] = [];
  replay.answerWith((request) => {
    requests.push(request);
    return provider.answer(request);
  });
  await converse(application());
  // Its last turn, the tenth, thinks in two places; the work that is going on began with the eighth.
  const request = requests[10];
  if (request === undefined) throw new Error("there were too few requests");
  const asked: Json = JSON.parse(request.body.toString());
  const status = (change: (asked: Json) => void, headers = request.headers): number => {
    const broken = structuredClone(asked);
    change(broken);
    return provider.answer({ path: request.path, headers, body: Buffer.from(JSON.stringify(broken)) }).status;
  };
  const wrong: Readonly<Record<string, (asked: Json) => void>> = {
    "no thinking at the beginning of the work": ({ messages }) => messages[15].content.shift(),
    "no thinking in its middle": ({ messages }) => messages[17].content.shift(),
    "a changed signature": ({ messages }) => {
      messages[1].content[0].signature += "=";
    },
    "changed thinking": ({ messages }) => {
      messages[19].content[2].thinking += " ";
    },
    "another turn's thinking": ({ messages }) => {
      messages[1].content[0] = messages[17].content[0];
    },
    "thinking in another order": ({ messages }) => messages[15].content.splice(0, 2, messages[15].content[1], messages[15].content[0]),
    "thinking behind words": ({ messages }) => messages[1].content.splice(0, 2, messages[1].content[1], messages[1].content[0]),
    "thinking where none is asked for": (whole) => {
      delete whole.thinking;
    },
    "a small budget": ({ thinking }) => {
      thinking.budget_tokens = 1000;
    },
    "a budget beyond the answer's": ({ thinking, max_tokens: most }) => {
      thinking.budget_tokens = most;
    },
    "results that are not merged": ({ messages }) =>
      messages.splice(2, 1, { role: "user", content: [messages[2].content[0]] }, { role: "user", content: [messages[2].content[1]] }),
    "a result less": ({ messages }) => messages[2].content.pop(),
    "a result for another call": ({ messages }) => {
      messages[2].content[0].tool_use_id = "toolu_0_up";
    },
    "words before results": ({ messages }) => messages[2].content.unshift({ type: "text", text: "well" }),
    "an id used twice": ({ messages }) => {
      messages[3].content.at(-1).id = messages[1].content.at(-1).id;
    },
    "an impossible id": ({ messages }) => {
      messages[3].content.at(-1).id = "a b";
    },
    "blank text": ({ messages }) => messages[0].content.push({ type: "text", text: " " }),
    "an answer that is begun": ({ messages }) => messages.pop(),
    "no tools": (whole) => {
      delete whole.tools;
    },
  };
  expect(Object.keys(wrong).map((name) => [name, status(wrong[name] ?? (() => {}))])).toEqual(
    Object.keys(wrong).map((name) => [name, 400]),
  );
  expect(status(() => {}, { ...request.headers, "x-api-key": "another" })).toBe(400);
  expect(status(() => {})).toBe(200);
});
