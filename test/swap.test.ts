/** Policy changes while the house is open: wrong ones are refused and nothing changes, right ones hold for the next call. */
import { createHash } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ask, type Caller, callers, faultIn, start } from "./kit/callers.ts";
import { type Replay, startReplay } from "./kit/replay.ts";
import { callerKey, policyFor, startTestSidecar, type TestSidecar } from "./kit/sidecar.ts";
import { openAiBody, openAiStream } from "./kit/wire.ts";

let first: Replay;
let second: Replay;
let house: TestSidecar;
beforeEach(async () => {
  [first, second] = await Promise.all([startReplay(), startReplay()]);
  for (const [replay, text] of [
    [first, "from the first"],
    [second, "from the second"],
  ] as const) {
    replay.answerWith({ pieces: [openAiBody({ text })], headers: { "content-type": "application/json" } });
  }
  house = await startTestSidecar(policyFor(first.origin), { open: "old-secret", ant: "b" });
});
afterEach(async () => {
  await house.close();
  await Promise.all([first.close(), second.close()]);
});

const unary = callerNamed("openai unary");
const stream = callerNamed("openai stream");

function callerNamed(name: string): Caller {
  const caller = callers.find((candidate) => candidate.name === name);
  if (caller === undefined) throw new Error(`there is no caller ${name}`);
  return caller;
}

async function said(): Promise<string> {
  const answer = await ask(unary, house.port, "open");
  return JSON.parse(answer.body.toString()).choices?.[0].message.content ?? answer.body.toString();
}

const wrong: Readonly<Record<string, { readonly edit: (policy: string) => string; readonly tells: RegExp }>> = {
  "a misspelt field": {
    edit: (policy) => policy.replace("endpoint:", "endpiont:"),
    tells: /policy\.yaml:7:3.*endpiont.*endpoint/s,
  },
  "YAML that ends in the middle": { edit: (policy) => `${policy}\n---\nkind: [`, tells: /policy\.yaml:\d+:\d+/ },
  "a wrong type": {
    edit: (policy) => policy.replace("models: [open]", "models: open"),
    tells: /policy\.yaml:22:19: .*spec\.match\.models/,
  },
  "a provider that is not there": {
    edit: (policy) => policy.replace("provider: open-provider", "provider: nobody"),
    tells: /policy\.yaml:23:24: .*nobody/,
  },
  "a secret that is not there": { edit: (policy) => policy.replace("SECRETS/open", "SECRETS/missing"), tells: /missing/ },
};

for (const [name, { edit, tells }] of Object.entries(wrong)) {
  test(`${name} is refused with its place, and the old policy keeps serving`, async () => {
    expect(await said()).toBe("from the first");
    const rootBefore = house.sidecar.status().root;
    house.offer(edit(policyFor(second.origin)));
    expect(await said()).toBe("from the first");
    expect(house.sidecar.status().root).toBe(rootBefore);
    expect(house.log()).toMatch(tells);
    const ready = await fetch(`${house.opsOrigin}/readyz`);
    expect(ready.status).toBe(200);
    const metrics = await (await fetch(`${house.opsOrigin}/metrics`)).text();
    expect(metrics).toMatch(/outrigger_policy_apply_total\{result="refused"\} 1/);
    // The file is mended, and all is as if nothing had been.
    house.offer(policyFor(second.origin));
    expect(await said()).toBe("from the second");
  });
}

test("a right edit holds for the next call, and a call in flight ends as it began", async () => {
  let finish = (): void => {};
  const frames = openAiStream({ pieces: ["from ", "the ", "first"] });
  // The provider stops in the middle until the policy has changed.
  const held = async function* (): AsyncGenerator<string> {
    yield* frames.slice(0, 2);
    await new Promise<void>((resolve) => {
      finish = resolve;
    });
    yield* frames.slice(2);
  };
  first.answerWith({ pieces: held(), headers: { "content-type": "text/event-stream" } });
  const running = start(stream, house.port, "open");
  await running.begun;
  house.offer(policyFor(second.origin));
  expect(await said()).toBe("from the second");
  finish();
  const answer = await running.over;
  expect(answer.whole).toBe(true);
  expect(answer.body.toString()).toContain("data: [DONE]");
  expect(answer.body.toString()).toContain('"first"');
});

test("a route that is taken away is gone for the next call, and a call in flight ends as it began", async () => {
  let finish = (): void => {};
  const held = async function* (): AsyncGenerator<string> {
    await new Promise<void>((resolve) => {
      finish = resolve;
    });
    yield openAiBody({ text: "late" });
  };
  first.answerWith({ pieces: held(), headers: { "content-type": "application/json" } });
  const running = start(unary, house.port, "open");
  while (first.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
  house.offer(policyFor(first.origin).replace("models: [open]", "models: [other]"));
  const refused = await ask(unary, house.port, "open");
  expect(refused.status).toBe(404);
  expect(faultIn(unary, refused)).toMatchObject({ code: "model_not_found" });
  finish();
  expect((await running.over).body.toString()).toContain("late");
});

test("who may call changes with the policy", async () => {
  expect(await said()).toBe("from the first");
  house.offer(policyFor(first.origin, { closed: true }));
  const stranger = await ask(unary, house.port, "open");
  expect(stranger.status).toBe(401);
  const known = await ask(unary, house.port, "open", { headers: { authorization: `Bearer ${callerKey}` } });
  expect(known.status).toBe(200);
  expect(createHash("sha256").update(callerKey).digest("hex")).toHaveLength(64);
});

test("a credential that is changed in its file is used without a restart", { timeout: 30_000 }, async () => {
  await said();
  expect(first.requests.at(-1)?.headers.authorization).toBe("Bearer old-secret");
  house.setSecret("open", "new-secret");
  // The file is looked at from time to time, beside the calls; each call here is the test's own clock.
  const until = performance.now() + 25_000;
  while (performance.now() < until && first.requests.at(-1)?.headers.authorization !== "Bearer new-secret") await said();
  expect(first.requests.at(-1)?.headers.authorization).toBe("Bearer new-secret");
});
