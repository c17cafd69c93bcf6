/** Control is killed under load, and sidecars are restarted while it is away: what becomes of calls, and of policy once it is back. */
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Mesh, policyOf, type SidecarUnderTest, until } from "../kit/meshProcesses.ts";

/** What an outage came to. */
export interface OutageReport {
  readonly calls: number;
  /** Calls that failed, each with its reason. */
  readonly failures: readonly string[];
  /** Calls that saw two policies. */
  readonly torn: number;
  /** Sidecars that were restarted while control was away, by how: told to stop, killed, killed with a spoilt slot. */
  readonly restarts: { readonly told: number; readonly killed: number; readonly spoilt: number };
  /** Of these, sidecars that started from their disk. */
  readonly fromDisk: number;
  /** Of those with a spoilt slot, sidecars that used the other one. */
  readonly usedOther: number;
  /** From control's return until the last sidecar enforced what it should. */
  readonly convergedMs: number;
  /** Snapshots that came whole to sidecars which had what they should have all along: 0 if nothing is downloaded twice. */
  readonly downloadedTwice: number;
}

/** Plays it: load for at least that long, from so many callers, each of which rests for a time between its calls. */
export async function playOutage(loadMs: number, callers = 8, restMs = 2): Promise<OutageReport> {
  const mesh = new Mesh();
  try {
    await mesh.open();
    const token = await mesh.joinToken("chat", 10);
    await mesh.apply(policyOf(mesh.providerOrigin, 1));
    const names = ["one", "two", "three"];
    const sidecars = new Map<string, SidecarUnderTest>();
    for (const name of names) sidecars.set(name, await mesh.startSidecar(name, token));
    for (const sidecar of sidecars.values()) await sidecar.ready();
    // Twice, so that both slots are in use.
    await mesh.apply(policyOf(mesh.providerOrigin, 2));
    for (const sidecar of sidecars.values()) {
      await until(`${sidecar.name} has revision 2`, async () =>
        (await sidecar.metric("outrigger_policy_revision")) === 2 ? true : undefined,
      );
      await until(`${sidecar.name} has both slots`, () => (slotsOf(sidecar).length === 2 ? true : undefined));
    }

    const inService = new Map(sidecars);
    const inFlight = new Map<string, number>();
    const failures: string[] = [];
    let calls = 0;
    let torn = 0;
    let stopping = false;
    const load = Array.from({ length: callers }, async (_, caller) => {
      for (let turn = caller; !stopping; turn++) {
        const sidecar = [...inService.values()][turn % Math.max(inService.size, 1)];
        if (sidecar === undefined) throw new Error("some sidecar is always in service");
        inFlight.set(sidecar.name, (inFlight.get(sidecar.name) ?? 0) + 1);
        try {
          const { model, revision } = await sidecar.call();
          if (model !== revision) torn += 1;
        } catch (error) {
          failures.push(String(error));
        }
        inFlight.set(sidecar.name, (inFlight.get(sidecar.name) ?? 0) - 1);
        calls += 1;
        await sleep(restMs);
      }
    });

    await mesh.killControl();
    const restarts = { told: 0, killed: 0, spoilt: 0 };
    const spoilt = new Set<string>();
    let fromDisk = 0;
    let usedOther = 0;
    const endMs = performance.now() + loadMs;
    for (let turn = 0; turn < names.length || performance.now() < endMs; turn++) {
      const name = names[turn % names.length] ?? "";
      const sidecar = sidecars.get(name);
      if (sidecar === undefined) throw new Error(`there is no sidecar ${name}`);
      inService.delete(name);
      await until(`${name} has no call`, () => (inFlight.get(name) ? undefined : true));
      const spoils = turn % names.length === 2 && !spoilt.has(name);
      await sidecar.end(turn % 2 === 0 ? "SIGTERM" : "SIGKILL");
      if (spoils) {
        spoilNewest(sidecar, turn % 2 === 0);
        spoilt.add(name);
      }
      restarts[spoils ? "spoilt" : turn % 2 === 0 ? "told" : "killed"] += 1;
      const again = await mesh.startSidecar(name, token);
      await again.ready();
      fromDisk += await again.metric("outrigger_policy_booted_from_disk");
      if (spoils && (await again.metric("outrigger_policy_revision")) === 1) usedOther += 1;
      sidecars.set(name, again);
      inService.set(name, again);
    }

    await mesh.startControl();
    const backMs = performance.now();
    for (const { name } of sidecars.values()) {
      await until(`control knows that ${name} enforces revision 2`, async () => {
        const status = await mesh.statusOf(name);
        return status?.connected && status.revision === 2n && status.behind === undefined ? true : undefined;
      });
    }
    const convergedMs = performance.now() - backMs;
    stopping = true;
    await Promise.all(load);
    let downloadedTwice = 0;
    for (const [name, sidecar] of sidecars) {
      if (!spoilt.has(name)) downloadedTwice += await sidecar.metric("outrigger_policy_roots_received");
    }
    return { calls, failures, torn, restarts, fromDisk, usedOther, convergedMs, downloadedTwice };
  } finally {
    await mesh.close();
  }
}

function slotsOf({ state }: SidecarUnderTest): string[] {
  return readdirSync(state).filter((name) => /^policy-[ab]$/.test(name));
}

/** Flips a bit in the slot that was written last, or cuts it in the middle, as a disk or a crash might. */
function spoilNewest(sidecar: SidecarUnderTest, flips: boolean): void {
  const [newest] = slotsOf(sidecar)
    .map((name) => join(sidecar.state, name))
    .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  if (newest === undefined) throw new Error("it has a slot");
  const bytes = readFileSync(newest);
  if (flips) {
    const at = bytes.length >> 1;
    bytes[at] = (bytes[at] ?? 0) ^ 1;
  }
  writeFileSync(newest, flips ? bytes : bytes.subarray(0, bytes.length >> 1));
}
