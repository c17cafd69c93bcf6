/** `outrigger apply` and `outrigger diff`: make what stands in files hold, or say what that would change. */
import { toJson } from "@bufbuild/protobuf";
import {
  type ApplyResourcesResponse,
  ApplyResourcesResponseSchema,
  RolloutMode,
} from "../../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { type PolicyFile, problemText } from "../../../proto/resources.ts";
import { openFiles } from "../../store/files.ts";
import { changesOf, planLines, planSum } from "../planText.ts";
import { asked, type ControlOptions, openControl, problemOfMessage } from "../policyClient.ts";
import type { Terminal } from "../terminal.ts";
import { ExitCode, Failure, type World } from "../world.ts";

/** What the command line says. */
export interface ApplyOptions extends ControlOptions {
  readonly files: readonly string[];
  readonly owner: string;
  readonly prune: boolean;
  readonly dryRun: boolean;
  readonly staged: boolean;
  readonly atOnce: boolean;
  readonly reason: string;
}

/** Applies. Ends with 1 if the set is refused, and then nothing was changed. */
export async function apply(world: World, terminal: Terminal, options: ApplyOptions): Promise<number> {
  const answer = await send(world, options, options.dryRun);
  const refused = isRefused(answer);
  const lines = answerLines(terminal, answer, refused);
  if (!refused) {
    const revision = `revision ${answer.revision}`;
    if (answer.applied) lines.push(`Applied as ${revision}: ${planSum(answer.plan)}.${rolloutLine(answer.rollout)}`);
    else if (changesOf(answer.plan).length === 0) lines.push(`Nothing to change: ${revision} holds.`);
    else lines.push(`Would be ${planSum(answer.plan)}; ${revision} holds. Nothing was changed.`);
  }
  await terminal.result(toJson(ApplyResourcesResponseSchema, answer), lines.join("\n"));
  return refused ? ExitCode.error : ExitCode.ok;
}

/** What the command line says. */
export interface DiffOptions extends ControlOptions {
  readonly files: readonly string[];
  readonly owner: string;
  readonly prune: boolean;
}

/** Says what applying would change. Ends with 3 if that is anything. */
export async function diff(world: World, terminal: Terminal, options: DiffOptions): Promise<number> {
  const answer = await send(world, { ...options, staged: false, atOnce: false, reason: "", dryRun: true }, true);
  const refused = isRefused(answer);
  const drifts = changesOf(answer.plan).length > 0;
  const lines = answerLines(terminal, answer, refused);
  if (!refused)
    lines.push(drifts ? `Revision ${answer.revision} differs from the files.` : `Revision ${answer.revision} is what the files say.`);
  await terminal.result(toJson(ApplyResourcesResponseSchema, answer), lines.join("\n"));
  return refused ? ExitCode.error : drifts ? ExitCode.drift : ExitCode.ok;
}

async function send(world: World, options: ApplyOptions, validateOnly: boolean): Promise<ApplyResourcesResponse> {
  if (options.prune && options.owner === "") {
    throw new Failure(
      "--prune removes what an owner has and the files leave out, and no owner is named.",
      "Name it with --owner.",
      ExitCode.usage,
    );
  }
  const texts = await readTexts(world, options.files);
  return asked(
    openControl(world, options).policy.applyResources({
      texts: texts.map(({ path, text }) => ({ path, text })),
      validateOnly,
      owner: options.owner,
      prune: options.prune,
      reason: options.reason,
      rollout: options.staged ? RolloutMode.STAGED : options.atOnce ? RolloutMode.AT_ONCE : RolloutMode.UNSPECIFIED,
    }),
  );
}

/** The texts of files and folders. What they mean is control's affair, which knows what they refer to; that they can be read is ours. */
async function readTexts(world: World, paths: readonly string[]): Promise<readonly PolicyFile[]> {
  const { files, problems } = await openFiles(paths, world.clock.after).read();
  const unread = problems.filter(
    ({ id, line }) => line === undefined && (id === "policy/unreadable-file" || id === "policy/too-large" || id === "policy/no-resources"),
  );
  if (unread.length > 0)
    throw new Failure(`The files cannot be read whole, so nothing was sent:\n${unread.map((one) => `  ${problemText(one)}`).join("\n")}`);
  return files;
}

function isRefused(answer: ApplyResourcesResponse): boolean {
  return answer.problems.some((problem) => problemOfMessage(problem).severity === "error");
}

function answerLines(terminal: Terminal, answer: ApplyResourcesResponse, refused: boolean): string[] {
  const problems = answer.problems.map(problemOfMessage);
  const lines = problems.map((problem) => terminal.style(problem.severity === "error" ? "red" : "yellow", problemText(problem)));
  if (!refused) return [...lines, ...planLines(terminal, answer.plan)];
  const errors = problems.filter(({ severity }) => severity === "error").length;
  return [
    ...lines,
    `Refused for ${errors === 1 ? "this reason" : `these ${errors} reasons`}. Nothing would change, and nothing was changed: revision ${answer.revision} holds.`,
  ];
}

function rolloutLine(rollout: string): string {
  return rollout === "" ? "" : ` Sidecars get it by roll-out ${rollout}; \`outrigger status\` shows how far it is.`;
}
