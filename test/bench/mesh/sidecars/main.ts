/** Many sidecars in one process, real or light ones. Their parent hears when each root was enforced. */
import type { SidecarsAsked, SidecarsTold } from "../main.ts";
import { lightSidecar } from "./light.ts";
import { openRealHouse, realSidecar } from "./real.ts";
import type { BenchSidecar, Happened } from "./sidecar.ts";

/** What happened since the parent asked last; one message for each sidecar would be the parent's load and not control's. */
let told: Omit<SidecarsTold, "rssBytes"> = { acks: [], resumes: [], dialled: 0, lost: 0 };

function tell(what: Happened): void {
  switch (what.is) {
    case "acked":
      (what.resumed ? told.resumes : told.acks).push(performance.timeOrigin + performance.now());
      break;
    case "dialled":
      told.dialled += 1;
      break;
    case "lost":
      told.lost += 1;
      break;
  }
}

const all: BenchSidecar[] = [];

process.on("message", (asked: SidecarsAsked) => {
  switch (asked.is) {
    case "connect": {
      const { port, folder, real } = asked;
      const house = real ? openRealHouse() : undefined;
      for (const [at, sidecar] of asked.sidecars.entries()) {
        const { instance, account, token } = sidecar;
        const made =
          house === undefined ? lightSidecar(instance, account, token, port, tell) : realSidecar(house, { ...sidecar, port, folder }, tell);
        all.push(made);
        // Spread by us: cold starts are measured as work, not as a storm.
        setTimeout(() => made.start(), (at / asked.perSecond) * 1000);
      }
      break;
    }
    case "stick":
      for (let at = 0; at < all.length; at += asked.oneIn) all[at]?.stick?.();
      break;
    case "tell":
      break;
  }
  process.send?.({ ...told, rssBytes: process.memoryUsage.rss() } satisfies SidecarsTold);
  told = { acks: [], resumes: [], dialled: 0, lost: 0 };
});
process.on("disconnect", () => process.exit());
