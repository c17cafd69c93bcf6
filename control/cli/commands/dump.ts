/** `outrigger dump`: all policy as files would hold it. */
import type { Resource } from "../../../proto/resources/kinds.ts";
import { writeForm } from "../../../proto/resources/written.ts";
import { yamlOfAll } from "../../yaml.ts";
import { asked, type ControlOptions, openControl } from "../policyClient.ts";
import type { Terminal } from "../terminal.ts";
import { ExitCode, Failure, type World } from "../world.ts";

/** What the command line says. */
export interface DumpOptions extends ControlOptions {
  readonly kind: string;
  readonly namespace: string;
  readonly owner: string;
}

/** Prints resources as YAML that `outrigger apply` takes, or as a list for machines with `-o json`. */
export async function dump(world: World, terminal: Terminal, options: DumpOptions): Promise<number> {
  const { policy } = openControl(world, options);
  const { kind, namespace, owner } = options;
  const resources: Resource[] = [];
  for (let pageToken = "", first = true; first || pageToken !== ""; first = false) {
    const page = await asked(policy.listResources({ kind, namespace, owner, pageSize: 1000, pageToken }));
    for (const { resource } of page.resources) {
      if (resource?.kind.value === undefined)
        throw new Failure("Control has a resource of a kind that this build does not know.", "Use a later build.");
      resources.push(resource.kind.value);
    }
    pageToken = page.nextPageToken;
  }
  if (terminal.format === "json")
    await terminal.result(
      resources.map((resource) => writeForm(resource).form),
      "",
    );
  else terminal.out(yamlOfAll(resources));
  return ExitCode.ok;
}
