/** Roll-outs in virtual time, through the whole of control: a fleet of light sidecars, and policies that harm it in every way. */
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { RolloutMode } from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { RolloutState } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { LightSidecar } from "../../test/kit/lightSidecar.ts";
import { MeshWorld, policyFor } from "../../test/kit/meshWorld.ts";
import { seededRandom } from "../../test/kit/random.ts";

/** What a policy does to the sidecars that get it. */
const harms = [
  "none",
  "crash when tried",
  "crash when enforced",
  "crash at a call",
  "fail every call",
  "block every call",
  "refuse",
] as const;
type Harm = (typeof harms)[number];

/** Between two reports of a sidecar. */
const reportMs = 10_000;

/** A fleet whose sidecars have callers, report, crash and come back. */
class Fleet {
  readonly world: MeshWorld;
  readonly sidecars: LightSidecar[];
  /** Sidecars that the bad policy did something to. */
  readonly harmed = new Set<LightSidecar>();
  /** When the bad policy was last enforced by anybody, and when it was first. */
  firstMs = 0;
  lastMs = 0;
  bad = "";
  #harm: Harm = "none";
  readonly #random;
  readonly #nextReportMs = new Map<LightSidecar, number>();
  readonly #backAtMs = new Map<LightSidecar, number>();

  constructor(world: MeshWorld, size: number, seed: number) {
    this.world = world;
    this.#random = seededRandom(seed);
    this.sidecars = Array.from({ length: size }, (_, at) => new LightSidecar(`s${at}`, at % 2 === 0 ? "chat" : "batch"));
    for (const sidecar of this.sidecars) this.#nextReportMs.set(sidecar, this.now + this.#random.below(reportMs));
  }

  get now(): number {
    return this.world.clock.monotonicMs();
  }

  async begin(): Promise<void> {
    await this.world.apply(policyFor({ chat: 1, batch: 1 }));
    for (const sidecar of this.sidecars) await this.world.connect(sidecar);
    await this.world.settle();
    await this.run(60_000);
  }

  /** Makes every root from now on do harm. */
  turnBad(harm: Harm): void {
    this.#harm = harm;
    const good = new Set(this.sidecars.map(({ root }) => root));
    for (const sidecar of this.sidecars) {
      sidecar.taste = (root) => {
        if (good.has(root)) return "accept";
        if (harm === "refuse") return { refuse: "no" };
        if (harm === "crash when tried") {
          this.#crash(sidecar);
          return "ignore";
        }
        return "accept";
      };
    }
    this.isBad = (sidecar) => sidecar.root !== "" && !good.has(sidecar.root);
  }

  isBad: (sidecar: LightSidecar) => boolean = () => false;

  async run(ms: number): Promise<void> {
    await this.world.pass(ms, 500, async () => {
      for (const sidecar of this.sidecars) await this.#live(sidecar);
    });
  }

  async #live(sidecar: LightSidecar): Promise<void> {
    const { now, world } = this;
    const backAtMs = this.#backAtMs.get(sidecar);
    if (backAtMs !== undefined) {
      if (now < backAtMs) return;
      this.#backAtMs.delete(sidecar);
      // It boots from its disk with what it enforced last, and tries again later if it is not let in.
      await world.connect(sidecar).catch(() => this.#backAtMs.set(sidecar, now + 1_000));
      return;
    }
    if (!world.sessions.has(sidecar)) {
      await world.connect(sidecar).catch(() => undefined);
      return;
    }
    const bad = this.isBad(sidecar);
    // A trial enforces nothing, so what crashes at once is seen where a root was taken.
    if (bad && this.#harm !== "none") {
      this.harmed.add(sidecar);
      this.firstMs ||= now;
      this.lastMs = now;
      if (this.#harm === "crash when enforced" || (this.#harm === "crash at a call" && this.#random.next() < 0.5)) {
        this.#crash(sidecar);
        return;
      }
    }
    const reportAtMs = this.#nextReportMs.get(sidecar) ?? now;
    if (now < reportAtMs) return;
    this.#nextReportMs.set(sidecar, now + reportMs);
    const calls = 5 + this.#random.below(20);
    const failed = bad && this.#harm === "fail every call" ? calls : this.#random.next() < 0.05 ? 1 : 0;
    const blocked = bad && this.#harm === "block every call" ? calls : 0;
    sidecar.tell({
      case: "status",
      value: {
        $typeName: "outrigger.mesh.v1.Status",
        calls: BigInt(calls),
        failedCalls: BigInt(failed),
        blockedCalls: BigInt(blocked),
        firstContentP50: durationFromMs(300 + this.#random.below(100)),
        loopDelayMax: durationFromMs(5),
        root: sidecar.root,
      },
    });
  }

  #crash(sidecar: LightSidecar): void {
    this.harmed.add(sidecar);
    this.firstMs ||= this.now;
    this.lastMs = this.now;
    this.world.cut(sidecar);
    this.#backAtMs.set(sidecar, this.now + 2_000 + this.#random.below(20_000));
  }
}

let world: MeshWorld | undefined;
afterEach(() => world?.close());

const rates = { resumes: 1_000, coldStarts: 1_000 };

async function fleetOf(size: number, seed = 1): Promise<Fleet> {
  world = await MeshWorld.open({ admission: rates });
  const fleet = new Fleet(world, size, seed);
  await fleet.begin();
  return fleet;
}

describe("a staged roll-out", () => {
  test("of a good policy goes through every stage to all", async () => {
    const fleet = await fleetOf(200);
    const { rollout } = await fleet.world.apply(policyFor({ chat: 2, batch: 1 }), RolloutMode.STAGED);
    const shares = new Set<number>();
    for (let minute = 0; minute < 8; minute++) {
      await fleet.run(30_000);
      shares.add(fleet.world.mesh.rollouts(1)[0]?.shareMillionths ?? 0);
    }
    expect(fleet.world.mesh.rollouts(1)).toMatchObject([{ id: rollout, state: RolloutState.DONE, shareMillionths: 1_000_000 }]);
    expect([...shares].toSorted((a, b) => a - b)).toEqual([10_000, 100_000, 500_000, 1_000_000]);
    const chat = fleet.sidecars.filter(({ account }) => account === "chat");
    expect(new Set(chat.map(({ root }) => root)).size).toBe(1);
    expect(chat.every(({ revision }) => revision === 2)).toBe(true);
  });

  test("can be given to everybody, and taken back, by somebody", async () => {
    const fleet = await fleetOf(50);
    const before = fleet.sidecars.map(({ root }) => root);
    const first = await fleet.world.apply(policyFor({ chat: 2, batch: 2 }), RolloutMode.STAGED);
    await fleet.run(5_000);
    expect(fleet.world.mesh.decide("unknown", true, "ann")).toBeUndefined();
    fleet.world.mesh.decide(first.rollout, false, "ann");
    await fleet.run(5_000);
    expect(fleet.sidecars.map(({ root }) => root)).toEqual(before);
    expect(fleet.world.mesh.rollouts(1)).toMatchObject([{ state: RolloutState.ROLLED_BACK, reason: "ann took it back" }]);
    const second = await fleet.world.apply(policyFor({ chat: 3, batch: 3 }), RolloutMode.STAGED);
    await fleet.run(5_000);
    fleet.world.mesh.decide(second.rollout, true, "ann");
    await fleet.run(5_000);
    expect(new Set(fleet.sidecars.map(({ revision }) => revision))).toEqual(new Set([second.revision]));
  });

  test("that is overtaken by another change leaves nobody with what was overtaken", async () => {
    const fleet = await fleetOf(150);
    await fleet.world.apply(policyFor({ chat: 2, batch: 2 }), RolloutMode.STAGED);
    await fleet.run(45_000);
    const half = new Set(fleet.sidecars.map(({ root }) => root));
    expect(half.size).toBe(3);
    const { revision } = await fleet.world.apply(policyFor({ chat: 3, batch: 3 }), RolloutMode.AT_ONCE);
    await fleet.run(10_000);
    expect(new Set(fleet.sidecars.map((sidecar) => sidecar.revision))).toEqual(new Set([revision]));
    expect(new Set(fleet.sidecars.map(({ root }) => root)).size).toBe(2);
  });

  test("that concerns one account harms no other, and counts its stages there", async () => {
    const fleet = await fleetOf(40);
    const batch = fleet.sidecars.filter(({ account }) => account === "batch");
    const bytes = batch.map((sidecar) => sidecar.bytes);
    await fleet.world.apply(policyFor({ chat: 2, batch: 1 }), RolloutMode.STAGED);
    await fleet.run(20_000);
    expect(fleet.world.mesh.rollouts(1)).toMatchObject([{ shareMillionths: 50_000, enforced: 1 }]);
    expect(batch.map((sidecar) => sidecar.bytes)).toEqual(bytes);
  });
});

/** Rolls out a policy that harms. Returns what became of it. */
async function rollOut(size: number, harm: Harm, mode: RolloutMode, seed: number): Promise<Fleet> {
  const fleet = await fleetOf(size, seed);
  fleet.turnBad(harm);
  await fleet.world.apply(policyFor({ chat: 2, batch: 2 }), mode);
  await fleet.run(240_000);
  return fleet;
}

const anyHarm = fc.constantFrom(...harms.filter((harm) => harm !== "none"));

test("whatever a policy does, at most one sidecar or 1 % suffer from it, and it is gone from there within a minute", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 240 }), anyHarm, fc.nat(1_000), async (size, harm, seed) => {
      const fleet = await rollOut(size, harm, RolloutMode.STAGED, seed);
      try {
        expect(fleet.world.mesh.rollouts(5)).toContainEqual(expect.objectContaining({ state: RolloutState.ROLLED_BACK }));
        expect(fleet.harmed.size).toBeLessThanOrEqual(Math.max(1, size / 100));
        expect(fleet.lastMs - fleet.firstMs).toBeLessThanOrEqual(60_000);
        expect(fleet.sidecars.some(fleet.isBad)).toBe(false);
        // The store says what the sidecars do, so that a control that starts again brings nothing bad back.
        const [newest] = await fleet.world.store.revisions(1);
        expect(newest).toMatchObject({ author: "control", rolledBackTo: 1 });
      } finally {
        fleet.world.close();
      }
    }),
    { numRuns: process.env.OUTRIGGER_LONG === undefined ? 8 : 200 },
  );
  // 200 fleets live for five minutes each, in virtual time.
}, 300_000);

test("at once, a policy that no sidecar survives trying harms the one that tried it", async () => {
  const fleet = await rollOut(100, "crash when tried", RolloutMode.AT_ONCE, 3);
  expect(fleet.harmed.size).toBe(1);
  expect(fleet.world.mesh.rollouts(1)).toMatchObject([{ state: RolloutState.ROLLED_BACK }]);
});

test("is caught: without stages the same policies harm everybody, so what is measured above is what the stages do", async () => {
  const fleet = await rollOut(100, "fail every call", RolloutMode.AT_ONCE, 3);
  expect(fleet.harmed.size).toBe(100);
});
