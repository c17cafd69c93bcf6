/** A mesh in virtual time: the real control, light sidecars, a store in memory, no sockets. Nothing moves unless a test moves it. */
import { ConnectError } from "@connectrpc/connect";
import { Registry } from "prom-client";
import type { AdmissionRates } from "../../control/mesh/admission.ts";
import { type Mesh, type MeshParts, type MeshPeer, type MeshSession, openMesh, type Proven } from "../../control/mesh/mesh.ts";
import { countMesh } from "../../control/mesh/metrics.ts";
import type { RolloutRules } from "../../control/mesh/rollout.ts";
import { makeSigner } from "../../control/mesh/signing.ts";
import { openMemory } from "../../control/store/memory.ts";
import type { PolicyStore } from "../../control/store/store.ts";
import { RolloutMode } from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { fullNameOf, kindOf, listResources, type Resource, type Resources } from "../../proto/resources/kinds.ts";
import { readResources } from "../../proto/resources.ts";
import { ManualClock } from "./clock.ts";
import type { LightSidecar } from "./lightSidecar.ts";
import { seededRandom } from "./random.ts";

/** What a world is made with. */
export interface WorldOptions {
  readonly rollout?: MeshParts["rollout"];
  readonly rolloutRules?: RolloutRules;
  readonly admission?: AdmissionRates;
  readonly acceptRollback?: boolean;
  readonly store?: PolicyStore;
  readonly clock?: ManualClock;
  readonly signer?: MeshParts["signer"];
  readonly identify?: MeshParts["identify"];
  readonly secretsOf?: MeshParts["secretsOf"];
}

/** Whom a sidecar is taken for in a world that believes everybody. */
const believe: MeshParts["identify"] = async ({ namespace, account, instance }): Promise<Proven> => ({
  namespace,
  account,
  instance,
  notAfterMs: undefined,
  whole: false,
});

/** A peer without a certificate. */
export const anyPeer: MeshPeer = { address: "127.0.0.1", certificate: () => undefined };

/** One control and its sidecars. */
export class MeshWorld {
  readonly clock: ManualClock;
  readonly store: PolicyStore;
  readonly registry = new Registry();
  readonly logged: string[] = [];
  readonly sessions = new Map<LightSidecar, MeshSession>();
  /** Why streams ended. */
  readonly ended = new Map<LightSidecar, ConnectError>();
  mesh: Mesh;

  private constructor(clock: ManualClock, store: PolicyStore, mesh: Mesh) {
    this.clock = clock;
    this.store = store;
    this.mesh = mesh;
  }

  /** Opens a world. */
  static async open(options: WorldOptions = {}): Promise<MeshWorld> {
    const clock = options.clock ?? new ManualClock();
    const store = options.store ?? openMemory();
    const world = new MeshWorld(clock, store, undefined as never);
    const random = seededRandom(7);
    let names = 0;
    world.mesh = await openMesh({
      store,
      signer: options.signer ?? makeSigner(),
      clock,
      random: { next: random.next, id: () => `rollout-${(names++).toString().padStart(4, "0")}` },
      identify: options.identify ?? believe,
      metrics: countMesh(world.registry),
      log: (level, message, facts) => world.logged.push(`${level}: ${message} ${JSON.stringify(facts)}`),
      server: "test",
      rollout: options.rollout ?? "at once",
      acceptRollback: options.acceptRollback ?? false,
      ...(options.secretsOf === undefined ? {} : { secretsOf: options.secretsOf }),
      ...(options.rolloutRules === undefined ? {} : { rolloutRules: options.rolloutRules }),
      ...(options.admission === undefined ? {} : { admission: options.admission }),
    });
    return world;
  }

  /** Writes a policy, all of it, as the policy service does. Returns the revision and the roll-out. */
  async apply(text: string | Resources, rollout: RolloutMode = RolloutMode.UNSPECIFIED): Promise<{ revision: number; rollout: string }> {
    const resources = typeof text === "string" ? read(text) : text;
    const now = await this.store.read();
    const keyOf = (resource: Resource): string => `${kindOf(resource)} ${fullNameOf(resource)}`;
    const keys = new Set(listResources(resources).map(keyOf));
    const outcome = await this.store.write({
      base: now.revision,
      upserts: listResources(resources).map((resource) => ({ resource, owner: "" })),
      removals: now.resources
        .filter(({ resource }) => !keys.has(keyOf(resource)))
        .map(({ resource }) => {
          const [namespace = "", name = ""] = fullNameOf(resource).split("/");
          return { kind: kindOf(resource), namespace, name };
        }),
      author: "test",
      reason: "",
      atMs: this.clock.wallMs(),
      rolledBackTo: 0,
    });
    if (!outcome.written) throw new Error("somebody else wrote");
    return { revision: outcome.revision, rollout: this.mesh.committed(outcome.revision, { resources: listResources(resources), rollout }) };
  }

  /** Connects a sidecar. Rejects if it is not let in. */
  async connect(sidecar: LightSidecar, more: Parameters<LightSidecar["opening"]>[0] = {}, peer = anyPeer): Promise<void> {
    this.sessions.set(sidecar, await this.mesh.open(sidecar.opening(more), peer));
    this.ended.delete(sidecar);
  }

  /** Cuts a sidecar's stream. */
  cut(sidecar: LightSidecar): void {
    this.sessions.get(sidecar)?.close();
    this.sessions.delete(sidecar);
  }

  /** Lets everybody talk until nobody has anything to say. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 2; ) {
      quiet += 1;
      for (const [sidecar, session] of [...this.sessions]) if (this.#talk(sidecar, session)) quiet = 0;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Lets time pass in steps, and everybody talk after each. */
  async pass(ms: number, stepMs = 500, then: () => void | Promise<void> = () => undefined): Promise<void> {
    for (let passed = 0; passed < ms; passed += stepMs) {
      this.clock.advance(stepMs);
      await then();
      await this.settle();
    }
  }

  /** Stops control. */
  close(): Promise<void> {
    return this.mesh.close();
  }

  #talk(sidecar: LightSidecar, session: MeshSession): boolean {
    let did = false;
    try {
      for (const request of sidecar.say()) {
        session.receive(request);
        did = true;
      }
      for (;;) {
        const message = session.take();
        if (message === undefined) break;
        sidecar.hear(message);
        did = true;
      }
      session.check();
    } catch (error) {
      if (!(error instanceof ConnectError)) throw error;
      this.ended.set(sidecar, error);
      this.sessions.delete(sidecar);
    }
    return did;
  }
}

/** Reads policy from text. Throws if there is a problem with it. */
export function read(text: string): Resources {
  const { resources, problems } = readResources([{ path: "policy.yaml", text }]);
  const [problem] = problems.filter(({ severity }) => severity === "error");
  if (problem !== undefined) throw new Error(`${problem.kind} ${problem.name} ${problem.field}: ${problem.message}`);
  return resources;
}

/** A policy for accounts, each with a route of its own; `versions` is what may change for each. Everybody shares one provider. */
export function policyFor(versions: Readonly<Record<string, number>>, more = ""): string {
  const head = `
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: shared}
spec: {openai: {}}
`;
  const parts = Object.entries(versions).map(
    ([account, version], at) => `---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: ${account}}
spec: {match: {models: [${account}], consumers: [${account}]}, targets: [{provider: shared, model: v${version}}]}
---
apiVersion: outrigger.dev/v1alpha1
kind: Consumer
metadata: {name: ${account}}
spec: {identities: [{apiKey: {sha256: "${at.toString(16).padStart(64, "0")}"}}]}
---
apiVersion: outrigger.dev/v1alpha1
kind: SidecarGrant
metadata: {name: ${account}}
spec: {sidecars: [{account: ${account}}], routes: [${account}]}
`,
  );
  return [head, ...parts, more].join("");
}
