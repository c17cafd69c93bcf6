/**
 * Twenty turns of tool calls with thinking through the plain OpenAI SDK, against a provider that keeps the rules of the Converse API to the
 * letter and answers 400 to anything else.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Replay, type SeenRequest, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";
import { StrictConverse } from "./kit/strict/converse.ts";
import type { Json } from "./kit/strict/messages.ts";
import { type Application, converse, converseWithRestart, keepAll, keepPlain, Script } from "./kit/strict/toolLoop.ts";

const turns = 20;
const secrets = { open: "a", ant: "b", bed: "c" };

let replay: Replay;
let house: TestSidecar;

function policy(): string {
  const more = `---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: bed-provider}
spec: {bedrock: {region: eu-central-1}, endpoint: "${replay.origin}", credential: {header: {secret: {file: SECRETS/bed}}}}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: bed-route}
spec: {match: {models: [bed]}, targets: [{provider: bed-provider, model: eu.anthropic.claude-sonnet-4-5-20250929-v1:0}]}
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

function newProvider(): StrictConverse {
  const provider = new StrictConverse(new Script(turns), "c");
  replay.answerWith((request) => provider.answer(request));
  return provider;
}

function application(changes: Partial<Application> = {}): Application {
  return { model: "bed", stream: false, keep: keepPlain, origin: () => house.origin, effort: "low", ...changes };
}

test.each([true, false])("a client that knows nothing of thinking is never refused and loses none of it, streaming: %s", async (stream) => {
  const provider = newProvider();
  expect(await converse(application({ stream }))).toBe(turns + 1);
  expect(provider.rules).toMatchObject({ lost: new Set(), thoughtless: 0 });
});

test("a client that gives messages back as it got them loses nothing either", async () => {
  const provider = newProvider();
  expect(await converse(application({ keep: keepAll }))).toBe(turns + 1);
  expect(provider.rules).toMatchObject({ lost: new Set(), thoughtless: 0 });
});

test("a sidecar that starts again in the middle has lost what was before, and the conversation goes on", async () => {
  const provider = newProvider();
  const start = (): Promise<TestSidecar> => startTestSidecar(policy(), secrets, { logLevel: "silent" });
  expect(await converseWithRestart(start, 11, application())).toBe(turns + 1);
  // The work of turns 8 to 13 is cut in two: its second half goes on without thinking. In the next one the model thinks again.
  expect(provider.rules.thoughtless).toBe(4);
  expect(Math.max(...provider.rules.lost)).toBe(10);
});

test("the provider refuses what breaks its rules", async () => {
  const provider = new StrictConverse(new Script(turns), "c");
  const requests: SeenRequest[] = [];
  replay.answerWith((request) => {
    requests.push(request);
    return provider.answer(request);
  });
  await converse(application());
  const request = requests[10];
  if (request === undefined) throw new Error("there were too few requests");
  const asked: Json = JSON.parse(request.body.toString());
  const status = (change: (asked: Json) => void): number => {
    const broken = structuredClone(asked);
    change(broken);
    return provider.answer({ path: request.path, headers: request.headers, body: Buffer.from(JSON.stringify(broken)) }).status;
  };
  const wrong: Readonly<Record<string, (asked: Json) => void>> = {
    "no thinking at the beginning of the work": ({ messages }) => messages[15].content.shift(),
    "thinking where none is asked for": (whole) => {
      delete whole.additionalModelRequestFields;
    },
    "a changed signature": ({ messages }) => {
      messages[1].content[0].reasoningContent.reasoningText.signature += "=";
    },
    "a block of two members": ({ messages }) => {
      messages[0].content[0].cachePoint = { type: "default" };
    },
    "a result less": ({ messages }) => messages[2].content.pop(),
    "no tools": (whole) => {
      delete whole.toolConfig;
    },
  };
  expect(Object.keys(wrong).map((name) => [name, status(wrong[name] ?? (() => {}))])).toEqual(
    Object.keys(wrong).map((name) => [name, 400]),
  );
  expect(status(() => {})).toBe(200);
});
