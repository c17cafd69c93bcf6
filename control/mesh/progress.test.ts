import { expect, test } from "vitest";
import { RolloutMode } from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { RolloutState } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { Controls, inSqlite, type StoreOfControls, storesOfControls } from "../../test/kit/controls.ts";
import { LightSidecar } from "../../test/kit/lightSidecar.ts";
import { type MeshWorld, policyFor } from "../../test/kit/meshWorld.ts";

const writable = storesOfControls.filter(({ name }) => name !== "folder that is only read");

/** A control with a fleet that all enforces the first policy, for long enough that it is remembered. */
async function withFleet(store: StoreOfControls, options: ConstructorParameters<typeof Controls>[1] = {}) {
  const controls = new Controls(store, options);
  const sidecars = Array.from({ length: 10 }, (_, at) => new LightSidecar(`s${at}`));
  const world = await controls.start();
  await world.apply(policyFor({ chat: 1 }), RolloutMode.AT_ONCE);
  await connectAll(world, sidecars);
  await world.pass(3_000);
  return { controls, world, sidecars };
}

async function connectAll(world: MeshWorld, sidecars: readonly LightSidecar[]): Promise<void> {
  for (const sidecar of sidecars) await world.connect(sidecar);
  await world.settle();
}

/** How many have another root than most had in the beginning. */
const having = (sidecars: readonly LightSidecar[], root: string) => sidecars.filter((sidecar) => sidecar.root !== root).length;

// A change that one sidecar was trying out was everybody's as soon as control was started again.
test.each(writable)("$name: a change that was going out in stages goes on to do so after a restart", async (store) => {
  const { controls, world, sidecars } = await withFleet(store);
  const before = sidecars[0]?.root ?? "";
  await world.apply(policyFor({ chat: 2 }), RolloutMode.STAGED);
  await world.pass(5_000);
  expect(having(sidecars, before)).toBe(1);
  const member = sidecars.find(({ root }) => root !== before);
  const [{ id } = { id: "" }] = world.mesh.rollouts(1);
  await controls.kill();
  const again = await controls.start();
  await connectAll(again, sidecars);
  await again.pass(5_000);
  // The same one has it, and nobody else; who knows the roll-out by its name still does.
  expect(having(sidecars, before)).toBe(1);
  expect(member?.root).not.toBe(before);
  expect(again.mesh.rollouts(5)).toMatchObject([{ id, revision: 2, fromRevision: 1, state: RolloutState.STAGED }]);
  // Nobody calls, so each stage takes ten minutes; whoever comes meanwhile and is no member gets what the others have.
  await again.pass(45 * 60_000, 5_000, () => reconnect(again, sidecars));
  expect(having(sidecars, before)).toBe(sidecars.length);
  expect(again.mesh.rollouts(1)).toMatchObject([{ state: RolloutState.DONE }]);
  // And is settled: one more restart changes nothing.
  await controls.kill();
  const third = await controls.start();
  await connectAll(third, sidecars);
  await third.pass(5_000);
  expect(having(sidecars, before)).toBe(sidecars.length);
  expect(third.mesh.rollouts(5)).toEqual([]);
});

async function reconnect(world: MeshWorld, sidecars: readonly LightSidecar[]): Promise<void> {
  for (const sidecar of sidecars) {
    // Streams end with their age; a real sidecar comes back.
    if (sidecar.goaway !== undefined) world.cut(sidecar);
    sidecar.goaway = undefined;
    if (!world.sessions.has(sidecar)) await world.connect(sidecar);
  }
}

test("what was taken back and still stands in the store stays taken back after a restart, until there is another revision", async () => {
  const { controls, world, sidecars } = await withFleet(inSqlite);
  const before = sidecars[0]?.root ?? "";
  const { write } = world.store;
  for (const sidecar of sidecars) sidecar.taste = (root) => (root === before ? "accept" : { refuse: "no such file" });
  world.store.write = (change) =>
    change.author === "control" ? Promise.reject(new Error("the disk is full")) : write.call(world.store, change);
  await world.apply(policyFor({ chat: 2 }), RolloutMode.STAGED);
  await world.pass(5_000);
  const facts = { revision: 2, state: RolloutState.ROLLED_BACK, reason: expect.stringContaining("no such file") };
  expect(world.mesh.rollouts(5)).toMatchObject([facts]);
  expect((await world.store.read()).revision).toBe(2);
  for (const sidecar of sidecars) sidecar.taste = () => "accept";
  await controls.kill();

  const again = await controls.start();
  again.store.write = () => Promise.reject(new Error("the disk is full"));
  await connectAll(again, sidecars);
  await again.pass(5_000);
  expect(having(sidecars, before)).toBe(0);
  expect(again.mesh.rollouts(5)).toMatchObject([facts]);
  expect(again.mesh.sidecars().map(({ behindSinceMs }) => behindSinceMs)).toEqual(sidecars.map(() => undefined));
  await controls.kill();

  // Once the store can be written it says what the sidecars have, and what comes then is everybody's.
  const third = await controls.start();
  await connectAll(third, sidecars);
  await third.pass(5_000);
  expect(having(sidecars, before)).toBe(0);
  expect(await third.store.revisions(1)).toMatchObject([{ revision: 3, author: "control", rolledBackTo: 1 }]);
  await third.apply(policyFor({ chat: 4 }), RolloutMode.AT_ONCE);
  await third.pass(10_000);
  expect(having(sidecars, before)).toBe(sidecars.length);
});

test.each([
  ["staged", 1],
  ["at once", 10],
] as const)(
  "what was changed while control was away goes out %s, if that is the way of changes that say nothing",
  async (rollout, having1) => {
    const { controls, sidecars } = await withFleet(inSqlite, { rollout });
    const before = sidecars[0]?.root ?? "";
    await controls.stop();
    const elsewhere = await controls.start({ rollout: "at once" });
    const notes = await elsewhere.store.notes("policy");
    await elsewhere.apply(policyFor({ chat: 2 }), RolloutMode.AT_ONCE);
    await elsewhere.mesh.close();
    // Somebody wrote who knows nothing of sidecars, as by hand into files.
    await elsewhere.store.note("policy", notes);
    await controls.stop();
    const again = await controls.start();
    await connectAll(again, sidecars);
    await again.pass(3_000);
    expect(having(sidecars, before)).toBe(having1);
  },
);

test("many that do not come back make no stage larger for those that are there", async () => {
  const { controls, world, sidecars } = await withFleet(inSqlite);
  const before = sidecars[0]?.root ?? "";
  const crowd = Array.from({ length: 40 }, (_, at) => new LightSidecar(`gone${at}`));
  await connectAll(world, crowd);
  await world.pass(3_000);
  for (const one of crowd) world.cut(one);
  await world.apply(policyFor({ chat: 2 }), RolloutMode.STAGED);
  // One, 1 % and 10 % of ten are one each; all of them would be two stages of fifty.
  await world.pass(25 * 60_000, 5_000, () => reconnect(world, sidecars));
  expect(having(sidecars, before)).toBe(1);
  await controls.stop();
});

test("of a store that was restored from a backup, what stands in it is everybody's", async () => {
  const { world: later } = await withFleet(inSqlite);
  await later.apply(policyFor({ chat: 2 }), RolloutMode.AT_ONCE);
  await later.apply(policyFor({ chat: 3 }), RolloutMode.STAGED);
  await later.pass(1_000);
  const notes = await later.store.notes("policy");
  const { controls, world, sidecars } = await withFleet(inSqlite, { rollout: "staged" });
  const root = sidecars[0]?.root ?? "";
  await controls.kill();
  const restored = await controls.start();
  await restored.store.note("policy", notes);
  await controls.kill();
  const again = await controls.start();
  await connectAll(again, [...sidecars, new LightSidecar("fresh")]);
  await again.pass(2_000);
  expect(world.mesh.revision).toBe(1);
  expect(again.mesh.rollouts(1)).toEqual([]);
  expect(again.mesh.sidecars().map((one) => one.root)).toEqual(Array.from({ length: 11 }, () => root));
});
