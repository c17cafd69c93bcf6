import { mkdirSync, mkdtempSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { SealedSecrets } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { makeSealKey } from "../../sidecar/io/keys.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { LightSidecar } from "../../test/kit/lightSidecar.ts";
import { MeshWorld, policyFor } from "../../test/kit/meshWorld.ts";
import { openDelivery } from "./delivery.ts";

let folder: string;
let world: MeshWorld;
let warnings: string[];
let unwatch: () => void;
const policy = policyFor({ chat: 1 }).replace("spec: {openai: {}}", "spec: {openai: {}, credential: {header: {secret: {delivered: key}}}}");

/** A sidecar that opens what it is sent, with the sidecar's own code. */
class Opening extends LightSidecar {
  readonly key = makeSealKey();
  readonly opened: string[] = [];
  readonly sealed: SealedSecrets[] = [];

  override opening() {
    return { ...super.opening(), sealKey: this.key.publicKey };
  }

  override hear(message: Parameters<LightSidecar["hear"]>[0]): void {
    super.hear(message);
    if (message.message.case !== "secrets") return;
    this.sealed.push(message.message.value);
    const { root, secrets } = message.message.value;
    for (const sealed of secrets) {
      const { reference } = sealed;
      this.opened.push(`${reference}=${this.key.open(sealed, { scope: this.hello?.scope ?? "", root, reference })}`);
    }
  }
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "outrigger-secrets-"));
  mkdirSync(join(folder, "default"));
  writeFileSync(join(folder, "default", "key"), "sk-one\n");
  warnings = [];
  const clock = new ManualClock();
  const delivery = openDelivery({ folder, clock, log: (_, message) => warnings.push(message) });
  world = await MeshWorld.open({ clock, secretsOf: delivery.secretsOf });
  unwatch = delivery.watch(world.mesh.deliverAgain);
});
afterEach(() => {
  unwatch();
  world.close();
  rmSync(folder, { recursive: true });
});

test("a secret comes before the policy that needs it, and only its sidecar can open it", async () => {
  await world.apply(policy);
  const [one, other] = [new Opening("a"), new Opening("b")];
  for (const sidecar of [one, other]) await world.connect(sidecar);
  await world.settle();
  expect(one.got.slice(0, 3)).toEqual(["hello", "secrets", "delta"]);
  expect([one.opened, other.opened]).toEqual([["default/key=sk-one"], ["default/key=sk-one"]]);
  const [sealed] = one.sealed[0]?.secrets ?? [];
  if (sealed === undefined) throw new Error("nothing was sealed");
  const bound = { scope: "default/chat@2", root: one.root, reference: "default/key" };
  expect(one.key.open(sealed, bound)).toBe("sk-one");
  expect(() => other.key.open(sealed, bound)).toThrow();
  expect(() => one.key.open(sealed, { ...bound, root: "0".repeat(64) })).toThrow();
  expect(() => one.key.open(sealed, { ...bound, scope: "default/batch@2" })).toThrow();
  expect(() => one.key.open(sealed, { ...bound, reference: "default/other" })).toThrow();
  expect(JSON.stringify([...one.held.values()])).not.toContain("sk-one");
});

test("a secret that changes is delivered again, without a new root, also to who refused for want of it", async () => {
  unlinkSync(join(folder, "default", "key"));
  await world.apply(policy);
  const [patient, picky] = [new Opening("a"), new Opening("b")];
  picky.taste = () => ({ refuse: "the secret is missing" });
  for (const sidecar of [patient, picky]) await world.connect(sidecar);
  await world.settle();
  expect(warnings).toEqual([expect.stringContaining("cannot be read (ENOENT)")]);
  writeFileSync(join(folder, "default", "key"), "sk-two");
  await world.pass(5_500);
  expect([patient.opened, picky.opened]).toEqual([["default/key=sk-two"], ["default/key=sk-two"]]);
  expect(patient.got.filter((kind) => kind === "delta")).toHaveLength(1);
  await world.pass(20_000);
  expect(patient.opened).toHaveLength(1);
});

test("whoever refers to no secret, and whoever shows no key, is sent none", async () => {
  await world.apply(policyFor({ chat: 1 }));
  const without = new Opening("a");
  await world.connect(without);
  await world.settle();
  expect(without.got).not.toContain("secrets");
  await world.apply(policy);
  const keyless = new LightSidecar("b");
  await world.connect(keyless);
  await world.settle();
  expect(keyless.got).not.toContain("secrets");
});
