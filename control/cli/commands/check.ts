/** `outrigger check`: what is wrong with policy in files, and what is allowed and probably not meant. Nothing runs. */
import { listResources } from "../../../proto/resources/kinds.ts";
import { type Problem, problemText } from "../../../proto/resources/problem.ts";
import { openFiles } from "../../store/files.ts";
import { check as findAll } from "../check.ts";
import type { Terminal } from "../terminal.ts";
import { ExitCode, type World } from "../world.ts";

/** What the command line says. */
export interface CheckOptions {
  readonly files: readonly string[];
  /** Whether others than this machine will reach the sidecar's doors. */
  readonly exposed: boolean;
}

/** Prints the findings. Ends with 1 if there is an error, with 4 if there are only warnings. */
export async function check(world: World, terminal: Terminal, { files, exposed }: CheckOptions): Promise<number> {
  const read = await openFiles(files, world.clock.after).read();
  const findings = findAll(read, { exposed });
  const errors = findings.filter(({ severity }) => severity === "error").length;
  const warnings = findings.length - errors;
  const resources = listResources(read.resources).length;
  const sum =
    errors === 0
      ? `${counted(resources, "resource")} in ${counted(read.files.length, "file")}, no error, ${counted(warnings, "warning")}.`
      : `${counted(errors, "error")}, ${counted(warnings, "warning")}: a sidecar would refuse this policy whole.`;
  const lines = findings.map((finding) => shown(terminal, finding));
  await terminal.result(
    { errors, warnings, root: errors === 0 ? read.root : null, findings },
    [...lines, terminal.style(errors > 0 ? "red" : warnings > 0 ? "yellow" : "green", sum)].join("\n"),
  );
  return errors > 0 ? ExitCode.error : warnings > 0 ? ExitCode.checkWarning : ExitCode.ok;
}

function shown(terminal: Terminal, finding: Problem): string {
  return terminal.style(finding.severity === "error" ? "red" : "yellow", problemText(finding));
}

function counted(count: number, thing: string): string {
  return `${count} ${thing}${count === 1 ? "" : "s"}`;
}
