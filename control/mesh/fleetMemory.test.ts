import { describe, expect, test } from "vitest";
import { ManualClock } from "../../test/kit/clock.ts";
import { Controls, inSqlite, storesOfControls } from "../../test/kit/controls.ts";
import { LightSidecar } from "../../test/kit/lightSidecar.ts";
import { type MeshWorld, policyFor } from "../../test/kit/meshWorld.ts";
import { openMemory } from "../store/memory.ts";
import type { SidecarRecord } from "./fleet.ts";
import { readFleet, rememberFleet } from "./fleetMemory.ts";
import { noCalls } from "./rollout.ts";

const hourMs = 3_600_000;

const known = (world: MeshWorld) =>
  world.mesh.sidecars().map(({ instance, connected, root, revision }) => ({ instance, connected, root, revision }));

describe.each(storesOfControls)("$name", (kind) => {
  test.each(["stop", "kill"] as const)("a fleet is remembered when control is told to %s", async (way) => {
    const controls = new Controls(kind);
    const world = await controls.start();
    const sidecars = ["a", "b", "c"].map((name) => new LightSidecar(name));
    if (!world.store.readOnly) await world.apply(policyFor({ chat: 1 }));
    for (const sidecar of sidecars) await world.connect(sidecar);
    await world.pass(2_000);
    const before = known(world);
    expect(before.map(({ connected }) => connected)).toEqual([true, true, true]);
    const sinceMs = world.mesh.sidecars()[0]?.enforcedSinceMs;
    await controls[way]();
    controls.clock.advance(hourMs);
    const again = await controls.start();
    expect(known(again)).toEqual(before.map((one) => ({ ...one, connected: false })));
    const [back] = sidecars;
    if (back === undefined) throw new Error("there are three");
    await again.connect(back);
    await again.settle();
    expect(known(again)).toEqual(before.map((one) => ({ ...one, connected: one.instance === "a" })));
    // It enforces what it did, since when it did.
    expect(again.mesh.sidecars()[0]).toMatchObject({ enforcedSinceMs: sinceMs, behindSinceMs: undefined });
  });
});

test("why a sidecar refused, and since when it is behind, is remembered, and gone when policy is another", async () => {
  const controls = new Controls(inSqlite);
  const world = await controls.start();
  const picky = new LightSidecar("picky");
  await world.apply(policyFor({ chat: 1 }));
  await world.connect(picky);
  await world.settle();
  picky.taste = () => ({ refuse: "no such file" });
  await world.apply(policyFor({ chat: 2 }));
  await world.pass(2_000);
  const { behindSinceMs, refusal } = world.mesh.sidecars()[0] ?? {};
  expect(behindSinceMs).toBeDefined();
  await controls.kill();
  const again = await controls.start();
  expect(again.mesh.sidecars()).toMatchObject([{ revision: 1, behindSinceMs, refusal: { root: refusal?.root }, wanted: { revision: 2 } }]);
  expect(again.mesh.sidecars()[0]?.refusal?.problems).toEqual(refusal?.problems);
  await again.apply(policyFor({ chat: 3 }));
  await again.settle();
  expect(again.mesh.sidecars()).toMatchObject([{ behindSinceMs, refusal: undefined, wanted: { revision: 3 } }]);
});

test("one that was connected when control was killed was last heard of when control was last alive, one that went before when it went", async () => {
  const controls = new Controls(inSqlite);
  const world = await controls.start();
  const [stays, goes, stops] = [new LightSidecar("stays"), new LightSidecar("goes"), new LightSidecar("stops")];
  for (const sidecar of [stays, goes, stops]) await world.connect(sidecar);
  stops.tell({ case: "leaving", value: { $typeName: "outrigger.mesh.v1.Leaving" } });
  await world.pass(2_000);
  const wentMs = controls.clock.wallMs();
  world.cut(goes);
  await world.pass(hourMs, 10_000);
  const endMs = controls.clock.wallMs();
  await controls.kill();
  controls.clock.advance(hourMs);
  const heard = new Map((await controls.start()).mesh.sidecars().map(({ instance, lastHeardMs }) => [instance, lastHeardMs]));
  expect([...heard.keys()]).toEqual(["goes", "stays"]);
  expect(heard.get("goes")).toBe(wentMs);
  expect(endMs - (heard.get("stays") ?? 0)).toBeLessThanOrEqual(60_000);
});

test("whoever vanished is forgotten after a day, and nobody within ten minutes of control's own return, however long it was away", async () => {
  const controls = new Controls(inSqlite);
  const world = await controls.start();
  const [back, lost] = [new LightSidecar("back"), new LightSidecar("lost")];
  for (const sidecar of [back, lost]) await world.connect(sidecar);
  await world.pass(2_000);
  await controls.kill();
  controls.clock.advance(100 * hourMs);
  const again = await controls.start();
  await again.pass(9 * 60_000, 60_000);
  await again.connect(back);
  expect(known(again).map(({ instance, connected }) => [instance, connected])).toEqual([
    ["back", true],
    ["lost", false],
  ]);
  await again.pass(3 * 60_000, 60_000);
  expect(known(again).map(({ instance }) => instance)).toEqual(["back"]);
  await controls.kill();
  expect((await controls.start()).mesh.sidecars().map(({ instance }) => instance)).toEqual(["back"]);
});

test("heartbeats and words on how calls go are not written, and a change of policy is one row for each sidecar, some at a time", async () => {
  const store = openMemory();
  const written: (readonly [topic: string, rows: number])[] = [];
  const { note } = store;
  store.note = (topic, changes) => {
    written.push([topic, changes.size]);
    return note(topic, changes);
  };
  const clock = new ManualClock();
  const memory = rememberFleet([], { store, clock, failed: () => undefined });
  const records = Array.from({ length: 5_000 }, (_, at) => recordOf(`s${at}`));
  for (let again = 0; again < 3; again++) for (const record of records) memory.changed(record, false);
  for (let step = 0; step < 5; step++) {
    clock.advance(1_000);
    await new Promise(setImmediate);
  }
  expect(written.filter(([topic]) => topic === "sidecars").map(([, rows]) => rows)).toEqual([1_000, 1_000, 1_000, 1_000, 1_000]);
  written.length = 0;
  clock.advance(50_000);
  await new Promise(setImmediate);
  expect(written).toEqual([]);
  await memory.close();
  expect(await readFleet(store)).toHaveLength(5_000);
});

test("what could not be written is written later, the newest state of each, and people hear of it once", async () => {
  const store = openMemory();
  const clock = new ManualClock();
  const { note } = store;
  const failures: unknown[] = [];
  store.note = () => Promise.reject(new Error("database is locked"));
  const memory = rememberFleet([], { store, clock, failed: (error) => failures.push(error) });
  const pass = async (): Promise<void> => {
    clock.advance(1_000);
    await new Promise(setImmediate);
  };
  const [one, two] = [recordOf("one"), recordOf("two")];
  memory.changed(one, false);
  memory.changed(two, false);
  await pass();
  await pass();
  memory.changed(two, true);
  store.note = note;
  await pass();
  expect(failures).toHaveLength(1);
  expect((await readFleet(store)).map(({ instance }) => instance)).toEqual(["one"]);
  await memory.close();
});

test("a note that cannot be read hides no other", async () => {
  const store = openMemory();
  const memory = rememberFleet([recordOf("one")], { store, clock: new ManualClock(), failed: () => undefined });
  await memory.close();
  await store.note("sidecars", new Map([["x", new Uint8Array([255, 255, 255])]]));
  expect((await readFleet(store)).map(({ instance }) => instance)).toEqual(["one"]);
});

function recordOf(instance: string): SidecarRecord {
  return {
    key: `default/chat/${instance}`,
    namespace: "default",
    account: "chat",
    instance,
    build: "light 1",
    capabilityLevel: 2,
    connected: false,
    lastHeardMs: 1_000,
    root: "a".repeat(64),
    revision: 1,
    enforcedSinceMs: 1_000,
    applyUs: 5,
    wanted: { root: "a".repeat(64), revision: 1 },
    behindSinceMs: undefined,
    refusal: undefined,
    bootedFrom: 0,
    usual: noCalls,
  };
}
