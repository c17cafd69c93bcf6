/** A plan as people read it. */
import { ChangeKind, type Plan, type PlannedChange } from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import type { Style, Terminal } from "./terminal.ts";

function wordOf(change: ChangeKind): readonly [word: string, style: Style] {
  switch (change) {
    case ChangeKind.CREATE:
      return ["create", "green"];
    case ChangeKind.UPDATE:
      return ["update", "yellow"];
    case ChangeKind.DELETE:
      return ["delete", "red"];
    default:
      return ["?", "dim"];
  }
}

/** What a plan changes, without what stays the same. */
export function changesOf(plan: Plan | undefined): PlannedChange[] {
  return (plan?.changes ?? []).filter(({ change }) => change !== ChangeKind.UNCHANGED);
}

/** A plan as lines: each change under its resource, then how many stay as they are. Nothing at all is said in words. */
export function planLines(terminal: Terminal, plan: Plan | undefined): string[] {
  const changes = changesOf(plan);
  const kindWidth = Math.max(0, ...changes.map(({ name }) => name?.kind.length ?? 0));
  const lines = changes.flatMap(({ name, change, fields, fieldsLeftOut }) => {
    const [word, style] = wordOf(change);
    const head = `${terminal.style(style, word.padEnd(6))}  ${(name?.kind ?? "").padEnd(kindWidth)}  ${name?.namespace}/${name?.name}`;
    const below = fields.map(({ field, before, after }) =>
      before === ""
        ? `        + ${field}: ${after}`
        : after === ""
          ? `        - ${field}: ${before}`
          : `          ${field}: ${before} -> ${after}`,
    );
    return [head, ...below, ...(fieldsLeftOut === 0 ? [] : [`          and ${fieldsLeftOut} more fields`])];
  });
  const unchanged = (plan?.changes.length ?? 0) - changes.length;
  if (unchanged > 0) lines.push(terminal.style("dim", `${unchanged} unchanged`));
  return lines;
}

/** How much a plan changes, such as `2 created, 1 deleted`. */
export function planSum(plan: Plan | undefined): string {
  const changes = changesOf(plan);
  const parts = (
    [
      [ChangeKind.CREATE, "created"],
      [ChangeKind.UPDATE, "updated"],
      [ChangeKind.DELETE, "deleted"],
    ] as const
  ).flatMap(([kind, word]) => {
    const count = changes.filter(({ change }) => change === kind).length;
    return count === 0 ? [] : [`${count} ${word}`];
  });
  return parts.length === 0 ? "nothing changed" : parts.join(", ");
}
