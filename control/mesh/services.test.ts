import { create, toBinary } from "@bufbuild/protobuf";
import { Code, createClient, createRouterTransport } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, test } from "vitest";
import { RolloutMode } from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import {
  ListSidecarsRequestSchema,
  ListSidecarsResponseSchema,
  RolloutState,
  SidecarService,
} from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { LightSidecar } from "../../test/kit/lightSidecar.ts";
import { anyPeer, MeshWorld, policyFor } from "../../test/kit/meshWorld.ts";
import { openFleet } from "./fleet.ts";
import type { Joining } from "./joining.ts";
import { createSidecarService, type ServiceParts } from "./services.ts";

let world: MeshWorld;

beforeEach(async () => {
  world = await MeshWorld.open();
  await world.apply(policyFor({ chat: 1, batch: 1 }));
});
afterEach(() => world.close());

function client() {
  const service = createSidecarService({
    mesh: world.mesh,
    joining: {} as Joining,
    clock: world.clock,
    newId: () => "id",
    peerOf: () => anyPeer,
    callerOf: () => "ann",
  });
  return createClient(
    SidecarService,
    createRouterTransport((router) => router.service(SidecarService, service)),
  );
}

test("sidecars are listed page by page, each once, whoever comes or goes meanwhile", async () => {
  const sidecars = Array.from({ length: 25 }, (_, at) => new LightSidecar(`s${at}`, at % 2 === 0 ? "chat" : "batch"));
  for (const sidecar of sidecars) await world.connect(sidecar);
  await world.settle();
  const seen: string[] = [];
  let pageToken = "";
  do {
    const page = await client().listSidecars({ pageSize: 7, pageToken });
    expect(page.sidecars.length).toBeLessThanOrEqual(7);
    seen.push(...page.sidecars.map(({ account, instance }) => `${account}/${instance}`));
    pageToken = page.nextPageToken;
    await world.connect(new LightSidecar(`aa-${seen.length}`, "batch"));
  } while (pageToken !== "");
  expect(new Set(seen).size).toBe(seen.length);
  for (const { account, instance } of sidecars) expect(seen).toContain(`${account}/${instance}`);
  expect(seen).toEqual(seen.toSorted());
});

test("whoever is behind is listed with why, and counted", async () => {
  const [good, picky] = [new LightSidecar("good"), new LightSidecar("picky")];
  for (const sidecar of [good, picky]) await world.connect(sidecar);
  await world.settle();
  picky.taste = () => ({ refuse: "no such file" });
  await world.apply(policyFor({ chat: 2, batch: 1 }));
  await world.settle();
  world.clock.advance(30_000);
  const { sidecars, total, current, revision } = await client().listSidecars({ behindOnly: true });
  expect([sidecars.length, total, current, revision]).toEqual([1, 2, 1, 2n]);
  expect(sidecars[0]).toMatchObject({
    instance: "picky",
    connected: true,
    root: picky.root,
    wantedRoot: good.root,
    wantedRevision: 2n,
    refusedRoot: good.root,
    refusal: [{ message: "no such file" }],
    behind: { seconds: 30n },
  });
  expect((await client().listSidecars({ namespace: "elsewhere" })).sidecars).toEqual([]);
  // What an alarm is set on says the same.
  const figures = async (): Promise<string> => world.registry.metrics();
  const lines = (text: string) => text.split("\n").filter((line) => /^outrigger_control_(sidecars|behind_seconds)/.test(line));
  const states = (current: number, behind: number, away: number) => [
    `outrigger_control_sidecars{state="current"} ${current}`,
    `outrigger_control_sidecars{state="behind"} ${behind}`,
    `outrigger_control_sidecars{state="away"} ${away}`,
  ];
  expect(lines(await figures())).toEqual([...states(1, 1, 0), "outrigger_control_behind_seconds 30"]);
  world.cut(picky);
  expect(lines(await figures())).toEqual([...states(1, 0, 1), "outrigger_control_behind_seconds 0"]);
});

test("a sidecar that is gone is listed and not current", async () => {
  const sidecar = new LightSidecar("gone");
  await world.connect(sidecar);
  await world.settle();
  world.cut(sidecar);
  const { sidecars, total, current, away } = await client().listSidecars({});
  expect([total, current, away]).toEqual([1, 0, 1]);
  expect(sidecars[0]).toMatchObject({ connected: false, root: sidecar.root });
  expect(sidecars[0]?.behind).toBeUndefined();
  // Nobody knows whether it enforces what it should, so it is not among those that do.
  expect((await client().listSidecars({ behindOnly: true })).sidecars).toHaveLength(1);
  expect(await client().listSidecars({ connectedOnly: true })).toMatchObject({ sidecars: [], total: 1, away: 1 });
  // What it would get now is another policy than it was last known to have.
  await world.apply(policyFor({ chat: 2, batch: 1 }));
  await world.settle();
  world.clock.advance(30_000);
  const [later] = (await client().listSidecars({})).sidecars;
  expect(later).toMatchObject({ root: sidecar.root, wantedRevision: 2n, behind: { seconds: 30n } });
});

test("a sidecar that says that it stops is not missed", async () => {
  const [stops, stays] = [new LightSidecar("stops"), new LightSidecar("stays")];
  for (const sidecar of [stops, stays]) await world.connect(sidecar);
  await world.settle();
  stops.tell({ case: "leaving", value: { $typeName: "outrigger.mesh.v1.Leaving" } });
  await world.settle();
  expect(await client().listSidecars({})).toMatchObject({ sidecars: [{ instance: "stays" }], total: 1, current: 1, away: 0 });
  expect(await world.sessions.get(stops)?.next()).toBeUndefined();
});

test("roll-outs are listed and ended by who asks", async () => {
  await world.connect(new LightSidecar("a"));
  await world.settle();
  const { rollout } = await world.apply(policyFor({ chat: 2, batch: 1 }), RolloutMode.STAGED);
  await world.settle();
  expect((await client().listRollouts({})).rollouts).toMatchObject([
    { id: rollout, state: RolloutState.STAGED, revision: 2n, fromRevision: 1n },
  ]);
  const { rollout: ended } = await client().endRollout({ id: rollout, promote: false });
  expect(ended).toMatchObject({ state: RolloutState.ROLLED_BACK, reason: "ann took it back" });
  await expect(client().endRollout({ id: rollout })).rejects.toMatchObject({ code: Code.FailedPrecondition });
  await expect(client().endRollout({ id: "unknown" })).rejects.toMatchObject({ code: Code.NotFound });
});

test("of sidecars that are gone the newest twenty thousand are remembered", () => {
  const fleet = openFleet([], 0, () => undefined);
  for (let at = 0; at < 20_010; at++) fleet.disconnect(fleet.connect({ namespace: "n", account: "a", instance: `i${at}` }, at), at);
  const stays = fleet.connect({ namespace: "n", account: "a", instance: "stays" }, 0);
  fleet.tidy(30_000);
  expect(fleet.list()).toHaveLength(20_001);
  expect(fleet.find("n/a/i9")).toBeUndefined();
  expect(fleet.find("n/a/i10")).toBeDefined();
  expect(fleet.find(stays.key)).toBe(stays);
});

/** The times of some sidecars could not be written to the wire, and with one of them nobody could be listed any more. */
test("whatever time a sidecar took, it can be told", async () => {
  const times = Array.from({ length: 5000 }, (_, index) => 1 + index * 977);
  const record = {
    namespace: "default",
    account: "chat",
    instance: "one",
    wanted: { root: "", revision: 0 },
    lastHeardMs: 0,
    connected: true,
  };
  const mesh = { sidecars: () => times.map((applyUs) => ({ ...record, applyUs, root: "", revision: 0 })), revision: 1 };
  const parts = { mesh, clock: new ManualClock() } as unknown as ServiceParts;
  const page = await createSidecarService(parts).listSidecars(create(ListSidecarsRequestSchema, { pageSize: 1000 }), undefined as never);
  const answer = create(ListSidecarsResponseSchema, page);
  expect(answer.sidecars).toHaveLength(1000);
  expect(() => toBinary(ListSidecarsResponseSchema, answer)).not.toThrow();
  expect(answer.sidecars[1]?.applyTime).toMatchObject({ seconds: 0n, nanos: 978_000 });
});
