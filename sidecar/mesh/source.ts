/** The mesh as a source of policy: what a sidecar takes that is told by control which policy holds. */
import type { PolicyDesk, PolicySource } from "../policy/source.ts";
import { waitMs } from "./backoff.ts";
import { type MeshClient, type MeshParts, type MeshStatus, openMesh } from "./client.ts";

/** What the client takes beside what the sidecar lends. */
export type MeshMeans = Omit<MeshParts, "clock" | "random" | "offer" | "trial" | "deliver" | "health" | "note">;

/** What a source takes. */
export interface MeshSourceParts {
  /** Finds out who the sidecar is and what it has on its disk. Rejects with an error whose message says why not; it is asked again then. */
  readonly prepare: (desk: PolicyDesk) => Promise<MeshMeans>;
  /** Whether the doors wait for the first policy: where control is in the same process, it is there at once. */
  readonly prompt: boolean;
  /** Whether control delivers secrets. */
  readonly delivers: boolean;
}

/** How long the doors wait for a prompt control at most: longer than any policy takes to compile, and no reason to hang. */
const promptMs = 10_000;

/** Makes a source. Nothing begins before somebody subscribes. */
export function meshSource({ prepare, prompt, delivers }: MeshSourceParts): PolicySource {
  const begun = Promise.withResolvers<void>();
  let client: MeshClient | undefined;
  let waitingFor = "who this sidecar is has not been settled yet";

  return {
    subscribe(offer, desk) {
      const { clock, random, note } = desk;
      let closed = false;
      let failures = 0;
      let cancel: (() => void) | undefined;
      const cancelPrompt = prompt ? clock.after(promptMs, begun.resolve) : undefined;

      async function begin(): Promise<void> {
        try {
          const means = await prepare(desk);
          if (closed) return;
          client = openMesh({
            ...means,
            clock,
            random,
            // That a control of the same process is there is no news.
            note: prompt ? (level, message, facts) => (level === "warn" ? note(level, message, facts) : undefined) : note,
            trial: desk.trial,
            deliver: desk.deliver,
            health: desk.health,
            offer(offered, later) {
              const outcome = offer(offered, later);
              cancelPrompt?.();
              begun.resolve();
              return outcome;
            },
          });
        } catch (error) {
          if (closed) return;
          const reason = error instanceof Error ? error.message : String(error);
          // The same reason twice is no news.
          if (reason !== waitingFor) note("warn", "this sidecar cannot ask control yet", { reason });
          waitingFor = reason;
          cancel = clock.after(waitMs(failures++, undefined, random), () => void begin());
        }
      }

      desk.watchMesh(() => client?.status() ?? nothingYet);
      void begin();
      return async () => {
        closed = true;
        cancel?.();
        cancelPrompt?.();
        begun.resolve();
        await client?.farewell();
        await client?.close();
      };
    },
    delivers,
    waitingFor: () => client?.status().waitingFor ?? waitingFor,
    ...(prompt ? { begun: begun.promise } : {}),
  };
}

const nothingYet: MeshStatus = Object.freeze({
  connected: false,
  root: undefined,
  revision: 0,
  confirmedMs: 0,
  bootedFrom: 0,
  waitingFor: "",
  received: Object.freeze({ roots: 0, wanted: 0 }),
});
