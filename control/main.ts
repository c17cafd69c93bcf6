/** Builds one control: every part is made here and handed what it needs. Nothing is decided here. */
import type { Clock } from "./clock.ts";
import { openMemory } from "./store/memory.ts";
import { openSqlite } from "./store/sqlite.ts";
import type { PolicyStore } from "./store/store.ts";

/** Where policy is kept. */
export type StoreSetting = { readonly in: "memory" } | { readonly in: "sqlite"; readonly path: string };

/** Opens the store that is set. */
export async function openStore(setting: StoreSetting, clock: Clock): Promise<PolicyStore> {
  return setting.in === "memory" ? openMemory() : openSqlite(setting.path, { clock });
}
