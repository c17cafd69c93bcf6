/** What this build does not understand of a policy, as problems: passing over it could mean to pass over a limit. */
import { findExcess } from "../../proto/capability.ts";
import { fullNameOf, kindOf, listResources } from "../../proto/resources/kinds.ts";
import type { Problem, Resources } from "../../proto/resources.ts";

/** Finds everything that a sidecar of a capability level does not understand; nothing if it understands all. */
export function findForeign(resources: Resources, level: number): Problem[] {
  return listResources(resources).flatMap((resource) =>
    findExcess(resource, level).map(({ field, message }): Problem => {
      const hint = "Upgrade this sidecar, or leave this out until all are upgraded.";
      return { id: "policy/not-understood", severity: "error", kind: kindOf(resource), name: fullNameOf(resource), field, message, hint };
    }),
  );
}
