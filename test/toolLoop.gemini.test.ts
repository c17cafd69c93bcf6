/**
 * Twenty turns of tool calls through the plain OpenAI SDK, against a provider that keeps the rules of Gemini's newest models to the letter
 * and answers 400 to anything else. The SDK knows nothing of thought signatures, so those that come back come from the sidecar.
 */
import { createHash } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Replay, type SeenRequest, startReplay } from "./kit/replay.ts";
import { policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";
import { StrictContents } from "./kit/strict/contents.ts";
import type { Json } from "./kit/strict/messages.ts";
import { type Application, converse, converseWithRestart, keepAll, keepPlain, Script } from "./kit/strict/toolLoop.ts";

const turns = 20;
const secrets = { open: "a", ant: "b", gem: "c" };

let replay: Replay;
let house: TestSidecar;

function policy(): string {
  const more = `---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: gem-provider}
spec: {gemini: {}, endpoint: "${replay.origin}", credential: {header: {secret: {file: SECRETS/gem}}}}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: gem-route}
spec: {match: {models: [gem]}, targets: [{provider: gem-provider, model: gemini-3-flash}]}
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

function newProvider(): StrictContents {
  const provider = new StrictContents(new Script(turns), "c");
  replay.answerWith((request) => provider.answer(request));
  return provider;
}

function application(changes: Partial<Application> = {}): Application {
  return { model: "gem", stream: false, keep: keepPlain, origin: () => house.origin, ...changes };
}

test.each([true, false])("a client that knows nothing of signatures is never refused and loses none, streaming: %s", async (stream) => {
  const provider = newProvider();
  expect(await converse(application({ stream }))).toBe(turns + 1);
  expect(provider.lost).toEqual(new Set());
});

test("a client that gives messages back as it got them loses no signature", async () => {
  const provider = newProvider();
  expect(await converse(application({ keep: keepAll }))).toBe(turns + 1);
  expect(provider.lost).toEqual(new Set());
});

test("where nothing is kept, the value for lost signatures goes in their place, and no request is refused", async () => {
  const forgetful = await startTestSidecar(policy(), secrets, { logLevel: "silent", sealedBytesMax: 0 });
  try {
    const provider = newProvider();
    expect(await converse(application({ origin: () => forgetful.origin }))).toBe(turns + 1);
    expect(provider.lost.size).toBe(turns);
  } finally {
    await forgetful.close();
  }
});

test("what is kept for one consumer is never given to another, though it tells the same conversation", async () => {
  const keys = ["first-key-1", "second-key-2"];
  const consumers = keys.map((key, at) => {
    const sha256 = createHash("sha256").update(key).digest("hex");
    const head = `---\napiVersion: outrigger.dev/v1alpha1\nkind: Consumer\nmetadata: {name: consumer-${at}}\n`;
    return `${head}spec: {identities: [{api_key: {sha256: ${sha256}}}]}\n`;
  });
  const open = await startTestSidecar(policy() + consumers.join(""), secrets, { logLevel: "silent" });
  try {
    const provider = newProvider();
    let requests = 0;
    const apiKey = (): string => keys[requests++ < 10 ? 0 : 1] ?? "";
    expect(await converse(application({ origin: () => open.origin, apiKey }))).toBe(turns + 1);
    expect([...provider.lost].sort((a, b) => a - b)).toEqual(Array.from({ length: 10 }, (_, at) => at + 1));
  } finally {
    await open.close();
  }
});

test("a sidecar that starts again in the middle has lost what was before, and the conversation goes on", async () => {
  const provider = newProvider();
  const start = (): Promise<TestSidecar> => startTestSidecar(policy(), secrets, { logLevel: "silent" });
  expect(await converseWithRestart(start, 11, application())).toBe(turns + 1);
  expect([...provider.lost].sort((a, b) => a - b)).toEqual(Array.from({ length: 10 }, (_, at) => at + 1));
});

/** A real conversation, broken in one way each: the provider must see it, or it proves nothing. */
test("the provider refuses what breaks its rules", async () => {
  const provider = new StrictContents(new Script(turns), "c");
  const requests: SeenRequest[] = [];
  replay.answerWith((request) => {
    requests.push(request);
    return provider.answer(request);
  });
  await converse(application());
  const request = requests[8];
  if (request === undefined) throw new Error("there were too few requests");
  const asked: Json = JSON.parse(request.body.toString());
  const status = (change: (contents: Json[]) => void, headers = request.headers): number => {
    const broken = structuredClone(asked);
    change(broken.contents);
    return provider.answer({ path: request.path, headers, body: Buffer.from(JSON.stringify(broken)) }).status;
  };
  const wrong: Readonly<Record<string, (contents: Json[]) => void>> = {
    "no signature": (contents) => delete contents[1].parts[1].thoughtSignature,
    "another turn's signature": (contents) => {
      contents[1].parts[1].thoughtSignature = contents[3].parts[1].thoughtSignature;
    },
    "a signature too many": (contents) => {
      contents[1].parts[2].thoughtSignature = contents[1].parts[1].thoughtSignature;
    },
    "a signature of words that is made up": (contents) => {
      contents[13].parts[0].thoughtSignature = contents[1].parts[1].thoughtSignature;
    },
    "results in another order": (contents) => contents[2].parts.reverse(),
    "a result less": (contents) => contents[2].parts.pop(),
    "two contents of one side": (contents) => contents.splice(2, 1),
    "words beside results": (contents) => contents[2].parts.push({ text: "and" }),
    "nobody asking": (contents) => contents.pop(),
  };
  expect(Object.keys(wrong).map((name) => [name, status(wrong[name] ?? (() => {}))])).toEqual(
    Object.keys(wrong).map((name) => [name, 400]),
  );
  expect(status(() => {}, { ...request.headers, "x-goog-api-key": "another" })).toBe(400);
  expect(status(() => {})).toBe(200);
});
