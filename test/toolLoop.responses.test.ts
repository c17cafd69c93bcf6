/**
 * Twenty turns of tool calls with encrypted thinking through the plain Chat Completions half of the OpenAI SDK, against a provider that
 * keeps the rules of the Responses API to the letter and answers 400 to anything else.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Replay, type SeenRequest, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";
import type { Json } from "./kit/strict/messages.ts";
import { StrictResponses } from "./kit/strict/responses.ts";
import { type Application, converse, converseWithRestart, keepAll, keepPlain, Script } from "./kit/strict/toolLoop.ts";

const turns = 20;
const secrets = { open: "a", ant: "b", resp: "c" };

let replay: Replay;
let house: TestSidecar;

function policy(): string {
  const more = `---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: resp-provider}
spec: {responses: {}, endpoint: "${replay.origin}/v1", credential: {header: {secret: {file: SECRETS/resp}}}}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: resp-route}
spec: {match: {models: [resp]}, targets: [{provider: resp-provider, model: gpt-5}]}
`;
  return policyFor(replay.origin, { more });
}

beforeAll(async () => {
  replay = await startReplay();
  house = await startTestSidecar(policy(), secrets, { logLevel: "silent" });
});
afterAll(async () => {
  await house.close();
  await replay.close();
});

function newProvider(): StrictResponses {
  const provider = new StrictResponses(new Script(turns), "c");
  replay.answerWith((request) => provider.answer(request));
  return provider;
}

function application(changes: Partial<Application> = {}): Application {
  return { model: "resp", stream: false, keep: keepPlain, origin: () => house.origin, effort: "low", ...changes };
}

test.each([true, false])("a client that knows nothing of thinking is never refused and loses none of it, streaming: %s", async (stream) => {
  const provider = newProvider();
  expect(await converse(application({ stream }))).toBe(turns + 1);
  expect(provider.lost).toEqual(new Set());
});

test.each([true, false])("a client that gives messages back as it got them loses nothing either, streaming: %s", async (stream) => {
  const provider = newProvider();
  expect(await converse(application({ stream, keep: keepAll }))).toBe(turns + 1);
  expect(provider.lost).toEqual(new Set());
});

test("a sidecar that starts again in the middle has lost what was before, and the conversation goes on", async () => {
  const provider = newProvider();
  const start = (): Promise<TestSidecar> => startTestSidecar(policy(), secrets, { logLevel: "silent" });
  expect(await converseWithRestart(start, 11, application())).toBe(turns + 1);
  expect([...provider.lost].sort((a, b) => a - b)).toEqual(Array.from({ length: 10 }, (_, at) => at + 1));
});

test("the provider refuses what breaks its rules", async () => {
  const provider = new StrictResponses(new Script(turns), "c");
  const requests: SeenRequest[] = [];
  replay.answerWith((request) => {
    requests.push(request);
    return provider.answer(request);
  });
  await converse(application());
  const request = requests[4];
  if (request === undefined) throw new Error("there were too few requests");
  const asked: Json = JSON.parse(request.body.toString());
  const status = (change: (asked: Json) => void): number => {
    const broken = structuredClone(asked);
    change(broken);
    return provider.answer({ headers: request.headers, body: Buffer.from(JSON.stringify(broken)) }).status;
  };
  const at = (type: string): number => asked.input.findIndex((item: Json) => item.type === type);
  const wrong: Readonly<Record<string, (asked: Json) => void>> = {
    "a changed seal": ({ input }) => {
      input[at("reasoning")].encrypted_content += "=";
    },
    "a changed summary": ({ input }) => {
      input[at("reasoning")].summary = [{ type: "summary_text", text: "Something else." }];
    },
    "thinking without what came of it": ({ input }) => input.splice(at("reasoning") + 1, 1),
    "a call without its output": ({ input }) => input.splice(at("function_call_output"), 1),
    "an output of no call": ({ input }) => {
      input[at("function_call_output")].call_id = "call_0";
    },
    "another output": ({ input }) => {
      input[at("function_call_output")].output = "down 0";
    },
    "words before the output": ({ input }) => input.splice(at("function_call_output"), 0, { role: "user", content: "And?" }),
    "what is to be stored": (whole) => {
      whole.store = true;
    },
    "no wish for seals": (whole) => {
      delete whole.include;
    },
  };
  const refused = Object.keys(wrong).map((name) => [name, 400]);
  expect(Object.keys(wrong).map((name) => [name, status(wrong[name] ?? (() => {}))])).toEqual(refused);
  expect(status(() => {})).toBe(200);
});
