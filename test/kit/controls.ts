/** One control after the other over one store, in virtual time: what each of them knows of those before it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { makeSigner } from "../../control/mesh/signing.ts";
import { openFolder } from "../../control/store/folder.ts";
import { openMemory } from "../../control/store/memory.ts";
import { openSqlite } from "../../control/store/sqlite.ts";
import type { PolicyStore } from "../../control/store/store.ts";
import { ManualClock } from "./clock.ts";
import { MeshWorld, type WorldOptions } from "./meshWorld.ts";

/** A store that each control opens anew. */
export interface StoreOfControls {
  readonly name: string;
  /** Called once; what it gives opens the same store again and again. */
  readonly opens: (folder: string, clock: ManualClock) => () => Promise<PolicyStore>;
}

export const inSqlite: StoreOfControls = {
  name: "sqlite",
  opens: (folder, clock) => () => openSqlite(join(folder, "policy.sqlite"), { clock }),
};

/** Every kind of store. The one in memory stands for one that outlives its control. */
export const storesOfControls: readonly StoreOfControls[] = [
  {
    name: "memory",
    opens: () => {
      const store = { ...openMemory(), close: async () => undefined };
      return async () => ({ ...store });
    },
  },
  inSqlite,
  { name: "folder", opens: (folder, clock) => () => openFolder(join(folder, "policy"), { clock }) },
  {
    name: "folder that is only read",
    opens: (folder, clock) => () => openFolder(join(folder, "given"), { clock, readOnlyHistory: join(folder, "history") }),
  },
];

/** One control after the other. What is open ends with the test. */
export class Controls {
  readonly clock = new ManualClock();
  readonly #signer = makeSigner();
  readonly #open: () => Promise<PolicyStore>;
  readonly #options: WorldOptions;
  world: MeshWorld | undefined;

  constructor({ opens }: StoreOfControls, options: WorldOptions = {}) {
    const folder = mkdtempSync(join(tmpdir(), "outrigger-controls-"));
    onTestFinished(async () => {
      await this.stop();
      rmSync(folder, { recursive: true });
    });
    this.#open = opens(folder, this.clock);
    this.#options = options;
  }

  async start(options: WorldOptions = {}): Promise<MeshWorld> {
    this.world = await MeshWorld.open({ ...this.#options, ...options, store: await this.#open(), clock: this.clock, signer: this.#signer });
    return this.world;
  }

  /** As a process that is told to. */
  async stop(): Promise<void> {
    await this.world?.close();
    await this.world?.store.close();
    this.world = undefined;
  }

  /** As a process that is killed: nothing is written any more. */
  async kill(): Promise<void> {
    if (this.world !== undefined) this.world.store.note = async () => undefined;
    await this.stop();
  }
}
