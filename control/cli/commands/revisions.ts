/** `outrigger revisions` and `outrigger rollback`: what was changed by whom, and back to what was. */
import { toJson } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import {
  ChangeKind,
  DiffRevisionsResponseSchema,
  ListRevisionsResponseSchema,
  type Revision,
  RollBackResponseSchema,
} from "../../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { problemText } from "../../../proto/resources/problem.ts";
import { isoTime } from "../../clock.ts";
import { changesOf, planLines, planSum } from "../planText.ts";
import { asked, type ControlOptions, openControl, problemOfMessage } from "../policyClient.ts";
import { type Terminal, table } from "../terminal.ts";
import { ExitCode, type World } from "../world.ts";

/** What the command line says. */
export interface RevisionsOptions extends ControlOptions {
  /** How many, the newest first. */
  readonly limit: number;
}

/** Lists revisions. */
export async function revisions(world: World, terminal: Terminal, options: RevisionsOptions): Promise<number> {
  const answer = await asked(openControl(world, options).policy.listRevisions({ pageSize: options.limit }));
  const rows = answer.revisions.map((one) => [String(one.revision), timeOf(one), one.author, sumOf(one), reasonOf(one)]);
  const human =
    rows.length === 0 ? "There is no revision yet: nothing was applied." : table(["REVISION", "TIME", "AUTHOR", "CHANGES", "REASON"], rows);
  await terminal.result(toJson(ListRevisionsResponseSchema, answer), human);
  return ExitCode.ok;
}

/** What the command line says. */
export interface ShowRevisionOptions extends ControlOptions {
  readonly revision: number;
}

/** `outrigger revisions --show`: what one revision changed, field by field. */
export async function showRevision(world: World, terminal: Terminal, { revision, ...options }: ShowRevisionOptions): Promise<number> {
  const { policy } = openControl(world, options);
  const answer = await asked(policy.diffRevisions({ from: BigInt(revision - 1), to: BigInt(revision) }));
  const lines = planLines(terminal, answer.plan);
  await terminal.result(toJson(DiffRevisionsResponseSchema, answer), lines.length === 0 ? "It changed nothing." : lines.join("\n"));
  return ExitCode.ok;
}

/** What the command line says. */
export interface RollbackOptions extends ControlOptions {
  /** Which revision shall hold again; undefined for the one before the newest. */
  readonly revision: number | undefined;
  readonly dryRun: boolean;
  readonly reason: string;
}

/** Makes an earlier policy hold again, as a new revision. */
export async function rollback(world: World, terminal: Terminal, options: RollbackOptions): Promise<number> {
  const { policy } = openControl(world, options);
  const request = { revision: BigInt(options.revision ?? 0), validateOnly: options.dryRun, reason: options.reason };
  const answer = await asked(policy.rollBack(request));
  const problems = answer.problems.map(problemOfMessage);
  const refused = problems.some(({ severity }) => severity === "error");
  const lines = [...problems.map(problemText), ...planLines(terminal, answer.plan)];
  if (refused) lines.push(`Refused; nothing was changed: revision ${answer.revision} holds.`);
  else if (answer.applied) lines.push(`Rolled back as revision ${answer.revision}: ${planSum(answer.plan)}.`);
  else if (changesOf(answer.plan).length === 0) lines.push(`Nothing to change: revision ${answer.revision} holds that policy already.`);
  else lines.push(`Would be ${planSum(answer.plan)}; revision ${answer.revision} holds. Nothing was changed.`);
  await terminal.result(toJson(RollBackResponseSchema, answer), lines.join("\n"));
  return refused ? ExitCode.error : ExitCode.ok;
}

function timeOf({ time }: Revision): string {
  return time === undefined ? "" : isoTime(timestampMs(time)).replace(/\.\d+Z$/, "Z");
}

function sumOf({ changes }: Revision): string {
  const count = (kind: ChangeKind, sign: string): string[] => {
    const found = changes.filter(({ change }) => change === kind);
    if (found.length === 0) return [];
    const [only] = found;
    return found.length === 1 && only?.name !== undefined
      ? [`${sign}${only.name.kind} ${only.name.namespace}/${only.name.name}`]
      : [`${sign}${found.length}`];
  };
  return [...count(ChangeKind.CREATE, "+"), ...count(ChangeKind.UPDATE, "~"), ...count(ChangeKind.DELETE, "-")].join(" ");
}

function reasonOf({ reason, rolledBackTo }: Revision): string {
  const back = rolledBackTo === 0n ? "" : `back to ${rolledBackTo}`;
  return [back, reason].filter((part) => part !== "").join(": ");
}
