import { Code } from "@connectrpc/connect";
import { afterEach, describe, expect, test } from "vitest";
import { RetryInfoSchema } from "../../proto/gen/google/rpc/error_details_pb.ts";
import { RolloutMode } from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { RolloutState } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { LightSidecar } from "../../test/kit/lightSidecar.ts";
import { MeshWorld, policyFor, read } from "../../test/kit/meshWorld.ts";
import { openMemory } from "../store/memory.ts";
import { makeSigner } from "./signing.ts";

let world: MeshWorld;
afterEach(() => world.close());

const recordOf = (sidecar: LightSidecar) => world.mesh.sidecars().find(({ instance }) => instance === sidecar.instance);

/** Something that only sidecars of capability level 2 understand. */
const delivered = `---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: shared}
spec: {openai: {}, credential: {header: {secret: {delivered: key}}}}
`;

describe("policy reaches sidecars", () => {
  test("a change reaches those whom it concerns, and nobody else is sent a byte", async () => {
    world = await MeshWorld.open();
    const [chat, batch] = [new LightSidecar("a", "chat"), new LightSidecar("b", "batch")];
    await world.apply(policyFor({ chat: 1, batch: 1 }));
    for (const sidecar of [chat, batch]) await world.connect(sidecar);
    await world.settle();
    expect([...chat.held.keys()].filter((key) => key.includes("batch"))).toEqual([]);
    expect([chat.root, batch.root].every((root) => root !== "")).toBe(true);
    const [before, bytes] = [batch.root, batch.bytes];
    const { revision } = await world.apply(policyFor({ chat: 2, batch: 1 }));
    await world.settle();
    expect(recordOf(chat)).toMatchObject({ connected: true, root: chat.root, revision, behindSinceMs: undefined });
    expect(chat.root).not.toBe(before);
    expect([batch.root, batch.bytes]).toEqual([before, bytes]);
    expect(recordOf(batch)).toMatchObject({ wanted: { root: before, revision }, behindSinceMs: undefined });
  });

  test("whoever no grant names gets an empty policy", async () => {
    world = await MeshWorld.open();
    await world.apply(policyFor({ chat: 1 }));
    const stranger = new LightSidecar("x", "stranger");
    await world.connect(stranger);
    await world.settle();
    expect(stranger.held.size).toBe(0);
    expect(stranger.root).toMatch(/^[0-9a-f]{64}$/);
  });

  test("the sidecar in control's own process gets everything but grants", async () => {
    world = await MeshWorld.open();
    await world.apply(policyFor({ chat: 1, batch: 1 }));
    const own = new LightSidecar("own", "local");
    world.sessions.set(own, world.mesh.openInProcess(own.opening()));
    await world.settle();
    expect(own.held.size).toBe(5);
  });

  test("a change that somebody else wrote into the store is heard of", async () => {
    world = await MeshWorld.open();
    const sidecar = new LightSidecar("a");
    await world.connect(sidecar);
    const resources = read(policyFor({ chat: 1 }));
    await world.store.write({
      base: 0,
      upserts: [...resources.providers, ...resources.routes, ...resources.consumers, ...resources.grants].map((resource) => ({
        resource,
        owner: "",
      })),
      removals: [],
      author: "files",
      reason: "",
      atMs: 0,
      rolledBackTo: 0,
    });
    await world.settle();
    await world.pass(500);
    expect(sidecar.held.size).toBe(3);
    expect(world.mesh.revision).toBe(1);
  });

  test("two controls on the same data have the same roots, and the second resumes what the first began with one small message", async () => {
    const [store, signer] = [openMemory(), makeSigner()];
    world = await MeshWorld.open({ store, signer });
    const sidecar = new LightSidecar("a");
    await world.apply(policyFor({ chat: 1 }));
    await world.connect(sidecar);
    await world.settle();
    const [root, bytes] = [sidecar.root, sidecar.bytes];
    world.close();
    world = await MeshWorld.open({ store, signer });
    await world.connect(sidecar);
    await world.settle();
    expect([sidecar.root, sidecar.bytes]).toEqual([root, bytes]);
    expect(recordOf(sidecar)).toMatchObject({ root, behindSinceMs: undefined });
  });

  test("a refusal is kept with every problem, and gone with the next root", async () => {
    world = await MeshWorld.open();
    const [good, picky] = [new LightSidecar("a"), new LightSidecar("b")];
    await world.apply(policyFor({ chat: 1 }));
    for (const sidecar of [good, picky]) await world.connect(sidecar);
    await world.settle();
    const kept = picky.root;
    picky.taste = () => ({ refuse: "no such file" });
    await world.apply(policyFor({ chat: 2 }));
    await world.settle();
    expect(picky.root).toBe(kept);
    expect(recordOf(picky)).toMatchObject({ root: kept, refusal: { root: good.root, problems: [{ message: "no such file" }] } });
    expect(recordOf(picky)?.behindSinceMs).toBeDefined();
    picky.taste = () => "accept";
    await world.apply(policyFor({ chat: 3 }));
    await world.settle();
    expect(recordOf(picky)).toMatchObject({ root: good.root, refusal: undefined, behindSinceMs: undefined });
  });

  test("sidecars that are stuck hold up nobody", async () => {
    world = await MeshWorld.open();
    await world.apply(policyFor({ chat: 1 }));
    const sidecars = Array.from({ length: 200 }, (_, at) => new LightSidecar(`s${at}`));
    for (const [at, sidecar] of sidecars.entries()) {
      if (at % 100 === 0) sidecar.taste = () => "ignore";
      await world.connect(sidecar);
      await world.settle();
      // Cold starts are let in at 50 a second.
      if (at % 40 === 39) await world.pass(1_000);
    }
    for (let version = 2; version < 6; version++) await world.apply(policyFor({ chat: version }));
    await world.settle();
    const well = sidecars.filter((_, at) => at % 100 !== 0);
    expect(new Set(well.map(({ root }) => root)).size).toBe(1);
    expect(well.every((sidecar) => recordOf(sidecar)?.behindSinceMs === undefined)).toBe(true);
    expect(sidecars[0]?.got.filter((kind) => kind === "delta")).toHaveLength(1);
  });

  test("a stuck stream ends, so that its sidecar begins anew", async () => {
    world = await MeshWorld.open();
    const stuck = new LightSidecar("a");
    stuck.taste = () => "ignore";
    await world.apply(policyFor({ chat: 1 }));
    await world.connect(stuck);
    await world.pass(123_000, 1_000);
    expect(world.ended.get(stuck)?.code).toBe(Code.DeadlineExceeded);
    expect(recordOf(stuck)).toMatchObject({ connected: false });
  });

  test("heartbeats come every five seconds and say what should be enforced", async () => {
    world = await MeshWorld.open();
    const sidecar = new LightSidecar("a");
    await world.apply(policyFor({ chat: 1 }));
    await world.connect(sidecar);
    await world.pass(30_000);
    expect(sidecar.heartbeats).toBeGreaterThanOrEqual(5);
    expect(sidecar.heartbeats).toBeLessThanOrEqual(6);
    expect(sidecar.lastHeartbeat?.root).toBe(sidecar.root);
  });
});

/** Once, whoever set the clock back kept every heartbeat waiting; set forward, every stream that awaited an answer was cut. */
test.each([3_600_000, -3_600_000])("setting the clock by %d ms cuts no stream and delays no heartbeat", async (jumpMs) => {
  const clock = new (class extends ManualClock {
    jumpedMs = 0;
    override wallMs(): number {
      return super.wallMs() + this.jumpedMs;
    }
  })();
  world = await MeshWorld.open({ clock });
  await world.apply(policyFor({ chat: 1 }));
  const [sidecar, slow] = [new LightSidecar("a"), new LightSidecar("b")];
  slow.taste = () => "ignore";
  for (const one of [sidecar, slow]) await world.connect(one);
  await world.pass(10_000);
  const before = sidecar.heartbeats;
  clock.jumpedMs = jumpMs;
  await world.pass(20_000);
  expect(sidecar.heartbeats - before).toBe(4);
  expect(world.ended.size).toBe(0);
  await world.connect(new LightSidecar("c"));
});

describe("a mixed fleet", () => {
  test("what an older sidecar does not understand leaves it with what it has, told by field; the others go on", async () => {
    world = await MeshWorld.open();
    const [old, young] = [new LightSidecar("old"), new LightSidecar("young")];
    old.level = 1;
    await world.apply(policyFor({ chat: 1 }));
    for (const sidecar of [old, young]) await world.connect(sidecar);
    await world.settle();
    const before = old.root;
    expect(before).toBe(young.root);
    const text = policyFor({ chat: 1 }).replace(
      /\n.*?---/s,
      `${delivered.replace("---", "").trimEnd()}
---`,
    );
    await world.apply(text);
    await world.settle();
    expect(old.root).toBe(before);
    expect(young.root).not.toBe(before);
    expect(recordOf(old)).toMatchObject({
      root: before,
      wanted: { root: young.root },
      refusal: { root: young.root, problems: [{ id: "policy/not-understood", kind: "Provider", name: "default/shared" }] },
    });
    expect(recordOf(old)?.refusal?.problems[0]?.field).toContain("delivered");
    // It learns of what it does understand again.
    await world.apply(policyFor({ chat: 2 }));
    await world.settle();
    expect(recordOf(old)).toMatchObject({ root: old.root, refusal: undefined, behindSinceMs: undefined });
    expect(old.root).toBe(young.root);
  });

  test("an older sidecar that has nothing gets what is left, if nothing needs what it does not understand", async () => {
    world = await MeshWorld.open();
    const old = new LightSidecar("old", "local");
    old.level = 1;
    await world.apply(policyFor({ chat: 1 }, delivered.replaceAll("shared", "unused")));
    world.sessions.set(old, world.mesh.openInProcess(old.opening()));
    await world.settle();
    expect([...old.held.keys()].filter((key) => key.includes("Provider"))).toEqual(["outrigger.policy.v1.Provider default/shared"]);
    const needs = new LightSidecar("needs", "chat");
    needs.level = 1;
    await world.apply(
      policyFor({ chat: 1 }).replace(
        /\n.*?---/s,
        `${delivered.replace("---", "").trimEnd()}
---`,
      ),
    );
    await world.connect(needs);
    await world.settle();
    expect(needs.root).toBe("");
    expect(recordOf(needs)?.refusal?.problems).toHaveLength(1);
  });

  test("whoever applies is warned of it beforehand", async () => {
    world = await MeshWorld.open();
    const old = new LightSidecar("old");
    old.level = 1;
    await world.apply(policyFor({ chat: 1 }));
    await world.connect(old);
    const { providers, routes, consumers, grants } = read(
      policyFor({ chat: 1 }).replace(
        /\n.*?---/s,
        `${delivered.replace("---", "").trimEnd()}
---`,
      ),
    );
    const problems = await world.mesh.beforeCommit({
      resources: [...providers, ...routes, ...consumers, ...grants],
      rollout: RolloutMode.UNSPECIFIED,
    });
    expect(problems).toMatchObject([{ severity: "warning", kind: "Provider", name: "default/shared" }]);
  });
});

describe("limits", () => {
  test("cold starts are let in at their rate, and told when to come again; resumes are let in beside them", async () => {
    world = await MeshWorld.open({ admission: { resumes: 100, coldStarts: 5 } });
    await world.apply(policyFor({ chat: 1 }));
    const sidecars = Array.from({ length: 8 }, (_, at) => new LightSidecar(`s${at}`));
    const outcomes = await Promise.allSettled(sidecars.map((sidecar) => world.connect(sidecar)));
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(5);
    const [refused] = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason] : []));
    expect(refused).toMatchObject({ code: Code.ResourceExhausted });
    expect(refused.findDetails(RetryInfoSchema)).toHaveLength(1);
    await world.settle();
    const known = sidecars[0] ?? new LightSidecar("none");
    world.cut(known);
    await world.connect(known);
    world.clock.advance(1_000);
    await world.connect(sidecars[7] ?? known);
  });

  // What broke: after a restart the first of each scope counted as one that has nothing, and its whole scope waited for it.
  test("after a restart whoever has what it should resumes, the first of a scope too", async () => {
    const [store, signer] = [openMemory(), makeSigner()];
    world = await MeshWorld.open({ store, signer });
    await world.apply(policyFor({ chat: 1, batch: 1, search: 1 }));
    const sidecars = ["chat", "batch", "search"].map((account) => new LightSidecar(account, account));
    for (const sidecar of sidecars) await world.connect(sidecar);
    await world.settle();
    await world.mesh.close();
    world = await MeshWorld.open({ store, signer, admission: { resumes: 3, coldStarts: 1 } });
    const got = sidecars.map((sidecar) => sidecar.got.length);
    for (const sidecar of sidecars) await world.connect(sidecar);
    await world.settle();
    // None was sent its policy again: only that it still holds.
    expect(sidecars.map((sidecar, at) => sidecar.got.slice(got[at]))).toEqual(sidecars.map(() => ["hello", "delta"]));
    expect(sidecars.every(({ held }) => held.size > 0)).toBe(true);
    // Somebody whose root nobody knows is no such sidecar.
    const stranger = new LightSidecar("stranger", "chat");
    await world.connect(stranger, { appliedRoot: "0".repeat(64) });
    await expect(world.connect(new LightSidecar("other", "chat"), { appliedRoot: "1".repeat(64) })).rejects.toMatchObject({
      code: Code.ResourceExhausted,
    });
  });

  test("a policy that no sidecar could hold is refused before it is written", async () => {
    world = await MeshWorld.open();
    const { consumers } = read(policyFor({ chat: 1 }));
    const [consumer] = consumers;
    if (consumer?.spec === undefined) throw new Error("there is a consumer");
    const padding = "x".repeat(1024 * 1024);
    const resources = Array.from({ length: 70 }, (_, at) => ({
      ...consumer,
      metadata: { ...consumer.metadata, name: `c${at}`, labels: { padding } },
    })) as (typeof consumer)[];
    const problems = await world.mesh.beforeCommit({ resources, rollout: RolloutMode.UNSPECIFIED });
    expect(problems).toMatchObject([{ id: "policy/too-large", severity: "error" }]);
    expect(await world.mesh.beforeCommit({ resources: resources.slice(0, 3), rollout: RolloutMode.UNSPECIFIED })).toEqual([]);
  });

  test.each([
    ["", { instance: "" }],
    ["", { instance: "a/b" }],
    ["", { appliedRoot: "abc" }],
    ["", { instance: "x".repeat(300) }],
    ["", { capabilityLevel: 0 }],
    ["", { sealKey: new Uint8Array(5) }],
  ])("an opening that is not in order is refused %s%j", async (_, more) => {
    world = await MeshWorld.open();
    await expect(world.connect(new LightSidecar("a"), more as never)).rejects.toMatchObject({ code: Code.InvalidArgument });
    expect(world.mesh.sidecars()).toEqual([]);
  });

  test("sidecars that are gone are forgotten after a day", async () => {
    world = await MeshWorld.open();
    const sidecar = new LightSidecar("a");
    await world.connect(sidecar);
    world.cut(sidecar);
    await world.pass(23 * 3_600_000, 3_600_000);
    expect(world.mesh.sidecars()).toHaveLength(1);
    await world.pass(2 * 3_600_000, 3_600_000);
    expect(world.mesh.sidecars()).toHaveLength(0);
  });
});

describe("identity", () => {
  test.each([
    ["another account", { account: "other" }],
    ["another namespace", { namespace: "other" }],
    ["another instance", { instance: "other" }],
  ])("a sidecar that says it is %s than it has proven is refused", async (_, claim) => {
    const proven = { namespace: "default", account: "chat", instance: "a", notAfterMs: undefined, whole: false };
    world = await MeshWorld.open({ identify: async () => proven });
    await expect(world.connect(new LightSidecar("a"), claim as never)).rejects.toMatchObject({ code: Code.PermissionDenied });
    await world.connect(new LightSidecar("a"));
  });

  test("a stream ends with its credential, unless a fresh one comes", async () => {
    const clock = { nowMs: () => 0 };
    world = await MeshWorld.open({
      identify: async ({ namespace, account, instance }, credential) => ({
        namespace,
        account: credential === "other" ? "other" : account,
        instance,
        notAfterMs: clock.nowMs() + 60_000,
        whole: false,
      }),
    });
    clock.nowMs = () => world.clock.wallMs();
    const [loyal, late, thief] = [new LightSidecar("loyal"), new LightSidecar("late"), new LightSidecar("thief")];
    for (const sidecar of [loyal, late, thief]) await world.connect(sidecar);
    await world.pass(50_000);
    loyal.tell({ case: "reauth", value: { $typeName: "outrigger.mesh.v1.Reauth", credential: "fresh" } });
    thief.tell({ case: "reauth", value: { $typeName: "outrigger.mesh.v1.Reauth", credential: "other" } });
    await world.pass(20_000);
    expect(world.ended.get(late)?.code).toBe(Code.Unauthenticated);
    expect(world.ended.get(thief)?.code).toBe(Code.PermissionDenied);
    expect(world.sessions.has(loyal)).toBe(true);
  });

  test("the same instance again takes the place of its old stream", async () => {
    world = await MeshWorld.open();
    const [first, second] = [new LightSidecar("a"), new LightSidecar("a")];
    await world.connect(first);
    await world.connect(second);
    await world.settle();
    expect(world.ended.get(first)?.code).toBe(Code.Aborted);
    expect(recordOf(second)).toMatchObject({ connected: true });
  });
});

describe("leaving", () => {
  test("a planned stop asks all to leave within a time that their number gives, and lets nobody in", async () => {
    world = await MeshWorld.open();
    await world.apply(policyFor({ chat: 1 }));
    const sidecars = Array.from({ length: 40 }, (_, at) => new LightSidecar(`s${at}`));
    for (const sidecar of sidecars) await world.connect(sidecar);
    world.mesh.sendAway("this control stops", 8_000);
    await world.settle();
    expect(sidecars.every(({ goaway }) => goaway?.reason === "this control stops")).toBe(true);
    await expect(world.connect(new LightSidecar("late"))).rejects.toMatchObject({ code: Code.Unavailable });
  });

  test("a stream that has lived for half an hour is asked to come again", async () => {
    world = await MeshWorld.open();
    const sidecar = new LightSidecar("a");
    await world.connect(sidecar);
    await world.pass(26 * 60_000, 10_000);
    expect(sidecar.goaway).toBeUndefined();
    await world.pass(8 * 60_000, 10_000);
    expect(sidecar.goaway).toBeDefined();
  });
});

describe("going back", () => {
  test("a store that was restored from a backup is refused until somebody says that it is meant", async () => {
    const signer = makeSigner();
    world = await MeshWorld.open({ signer });
    const sidecar = new LightSidecar("a");
    for (let version = 1; version < 4; version++) await world.apply(policyFor({ chat: version }));
    await world.connect(sidecar);
    await world.settle();
    expect(sidecar.revision).toBe(3);
    const newest = sidecar.root;
    world.close();

    world = await MeshWorld.open({ signer });
    await world.apply(policyFor({ chat: 1 }));
    await world.connect(sidecar);
    await world.settle();
    expect(sidecar.root).toBe(newest);
    expect(recordOf(sidecar)?.behindSinceMs).toBeDefined();
    const store = world.store;
    world.close();

    world = await MeshWorld.open({ signer, store, acceptRollback: true });
    await world.connect(sidecar);
    await world.settle();
    expect(sidecar.root).not.toBe(newest);
    expect(sidecar.revision).toBe(1);
  });

  test("what was tried at once and lost the sidecar that tried it is taken back, in the store too", async () => {
    world = await MeshWorld.open();
    const sidecars = Array.from({ length: 9 }, (_, at) => new LightSidecar(`s${at}`));
    await world.apply(policyFor({ chat: 1 }));
    for (const sidecar of sidecars) await world.connect(sidecar);
    await world.settle();
    const good = sidecars[0]?.root;
    for (const sidecar of sidecars) sidecar.taste = () => "ignore";
    await world.apply(policyFor({ chat: 2 }), RolloutMode.AT_ONCE);
    await world.settle();
    const [trier] = sidecars.filter((sidecar) => sidecar.got.includes("trial"));
    if (trier === undefined) throw new Error("nobody tries");
    world.cut(trier);
    await world.pass(2_000);
    expect(world.mesh.rollouts(1)).toMatchObject([{ state: RolloutState.ROLLED_BACK }]);
    expect(sidecars.every(({ root }) => root === good)).toBe(true);
    const [newest] = await world.store.revisions(1);
    expect(newest).toMatchObject({ author: "control", rolledBackTo: 1, revision: 3 });
    expect(world.mesh.revision).toBe(3);
  });
});
