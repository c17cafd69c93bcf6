/** Where this user's programs keep what outlives them, as the XDG Base Directory Specification has it. */
import { join } from "node:path";
import type { World } from "./world.ts";

/** The folder of all state of this user; undefined if the environment names neither it nor a home. */
export function stateHome({ environment }: Pick<World, "environment">): string | undefined {
  return environment.XDG_STATE_HOME || (environment.HOME ? join(environment.HOME, ".local/state") : undefined);
}
