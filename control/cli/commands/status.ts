/** `outrigger status`: which sidecar enforces which policy, since when, and why one refused. */
import { toJson } from "@bufbuild/protobuf";
import { durationMs, timestampMs } from "@bufbuild/protobuf/wkt";
import {
  ListRolloutsResponseSchema,
  type Rollout,
  RolloutState,
  type SidecarStatus,
  SidecarStatusSchema,
} from "../../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { problemText } from "../../../proto/resources/problem.ts";
import { asked, type ControlClient, type ControlOptions, openControl, problemOfMessage } from "../policyClient.ts";
import { type Terminal, table } from "../terminal.ts";
import { ExitCode, type World } from "../world.ts";

/** What the command line says. */
export interface StatusOptions extends ControlOptions {
  /** The namespace of the sidecars' accounts, or empty for all. */
  readonly namespace: string;
  /** Whether to show only those that do not enforce what they should, or of which that is not known. */
  readonly behind: boolean;
  /** Whether those that are not connected are passed over. */
  readonly connected: boolean;
}

/** Shows it. Ends with 3 if a sidecar does not enforce what it should, or is away and nobody knows. */
export async function status(world: World, terminal: Terminal, options: StatusOptions): Promise<number> {
  const client = openControl(world, options);
  const { sidecars, revision, total, current, away } = await listSidecars(client, options);
  const { rollouts } = await asked(client.sidecars.listRollouts({ pageSize: 20 }));
  const running = rollouts.filter(({ ended }) => ended === undefined);
  const problems = (await asked(client.policy.listResources({ pageSize: 1 }))).problems.map(problemOfMessage);
  const nowMs = world.clock.wallMs();
  const lines: string[] = [];
  if (sidecars.length > 0) {
    const rows = sidecars.map((one) => rowOf(one, nowMs));
    lines.push(table(["ACCOUNT", "INSTANCE", "ROOT", "REVISION", "SINCE", "STATE"], rows).trimEnd());
  }
  for (const one of sidecars) {
    if (one.refusal.length === 0) continue;
    lines.push("", terminal.style("red", `${nameOf(one)} refused ${shortRoot(one.refusedRoot)} and keeps ${shortRoot(one.root)}:`));
    lines.push(...one.refusal.map((problem) => `  ${problemText(problemOfMessage(problem))}`));
  }
  for (const rollout of running) lines.push("", rolloutLine(rollout));
  if (problems.length > 0)
    lines.push(
      "",
      terminal.style("red", "What stands in the store is no policy, so what held before holds on:"),
      ...problems.map((one) => `  ${problemText(one)}`),
    );
  const sum =
    total === 0
      ? "No sidecar is connected, and none is missed. `outrigger sidecar` starts one, and `outrigger join-token create` lets it in."
      : `${current} of ${total} ${total === 1 ? "sidecar" : "sidecars"} ${current === 1 ? "enforces what it should" : "enforce what they should"}` +
        `${away === 0 ? "" : `; ${away} ${away === 1 ? "is" : "are"} not connected`}. The newest revision is ${revision}.`;
  lines.push(...(lines.length === 0 ? [] : [""]), terminal.style(current < total ? "yellow" : "green", sum));
  const value = {
    revision: Number(revision),
    total,
    current,
    away,
    sidecars: sidecars.map((one) => toJson(SidecarStatusSchema, one)),
    rollouts: running.map((one) => one.id),
    problems,
  };
  await terminal.result(value, lines.join("\n"));
  return sidecars.some((one) => isBehind(one) || !one.connected) ? ExitCode.drift : ExitCode.ok;
}

async function listSidecars({ sidecars: service }: ControlClient, { namespace, behind, connected }: StatusOptions) {
  const sidecars: SidecarStatus[] = [];
  for (let pageToken = ""; ; ) {
    const page = await asked(service.listSidecars({ namespace, behindOnly: behind, connectedOnly: connected, pageSize: 1000, pageToken }));
    sidecars.push(...page.sidecars);
    pageToken = page.nextPageToken;
    const { revision, total, current, away } = page;
    if (pageToken === "") return { sidecars, revision, total, current, away };
  }
}

function rowOf(one: SidecarStatus, nowMs: number): string[] {
  return [
    `${one.namespace}/${one.account}`,
    // Names that pods give themselves are long; their beginning tells them apart.
    one.instance.length > 20 ? `${one.instance.slice(0, 19)}…` : one.instance,
    one.root === "" ? "none" : shortRoot(one.root),
    one.root === "" ? "" : String(one.revision),
    one.enforcedSince === undefined ? "" : `${span(nowMs - timestampMs(one.enforcedSince))} ago`,
    stateOf(one, nowMs),
  ];
}

function stateOf(one: SidecarStatus, nowMs: number): string {
  const since = one.lastHeard === undefined ? "" : ` for ${span(nowMs - timestampMs(one.lastHeard))}`;
  const away = one.connected ? "" : `not connected${since}`;
  const behind = one.behind === undefined ? "" : `${one.refusal.length > 0 ? "refused" : "behind"} for ${span(durationMs(one.behind))}`;
  return [behind, away].filter((part) => part !== "").join("; ") || "current";
}

function isBehind(one: SidecarStatus): boolean {
  return one.behind !== undefined || one.refusal.length > 0;
}

function nameOf({ namespace, account, instance }: SidecarStatus): string {
  return `${namespace}/${account} ${instance}`;
}

/** Enough of a root to tell two apart by eye. */
function shortRoot(root: string): string {
  return root === "" ? "none" : root.slice(0, 12);
}

/** A span of time as people say it, in its largest unit. */
function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)}m`;
  return seconds < 172_800 ? `${Math.round(seconds / 3_600)}h` : `${Math.round(seconds / 86_400)}d`;
}

/** What the command line says. */
export interface RolloutOptions extends ControlOptions {
  readonly id: string;
  /** Whether everybody gets the change; otherwise it is taken back. */
  readonly promote: boolean;
}

/** `outrigger rollout list`: changes on their way to the sidecars. */
export async function listRollouts(world: World, terminal: Terminal, options: ControlOptions): Promise<number> {
  const answer = await asked(openControl(world, options).sidecars.listRollouts({ pageSize: 200 }));
  const lines = answer.rollouts.map(rolloutLine);
  await terminal.result(toJson(ListRolloutsResponseSchema, answer), lines.length === 0 ? "There was no roll-out yet." : lines.join("\n"));
  return ExitCode.ok;
}

/** `outrigger rollout promote` and `outrigger rollout stop`: ends one by hand. */
export async function endRollout(world: World, terminal: Terminal, { id, promote, ...options }: RolloutOptions): Promise<number> {
  const { rollout } = await asked(openControl(world, options).sidecars.endRollout({ id, promote }));
  await terminal.result(
    { id, state: rollout === undefined ? null : stateWord(rollout.state) },
    rollout === undefined ? id : rolloutLine(rollout),
  );
  return ExitCode.ok;
}

function rolloutLine({ id, revision, fromRevision, state, shareMillionths, enforced, refused, reason }: Rollout): string {
  const share = state === RolloutState.STAGED ? ` at ${Number((shareMillionths / 10_000).toFixed(1))} %` : "";
  const over = state === RolloutState.DONE || state === RolloutState.ROLLED_BACK;
  // Of what is over nobody counts any longer: whoever enforces something later is told by the sidecars' own lines.
  const counts = [over ? "" : `${enforced} enforce it`, refused === 0 ? "" : `${refused} refused it`]
    .filter((part) => part !== "")
    .join(", ");
  const rest = [counts === "" ? "" : `; ${counts}`, reason === "" ? "" : `. ${reason}`].join("");
  return `Roll-out ${id} of revision ${revision} (before: ${fromRevision}): ${stateWord(state)}${share}${rest}`;
}

function stateWord(state: RolloutState): string {
  switch (state) {
    case RolloutState.DRY_RUN:
      return "tried out";
    case RolloutState.STAGED:
      return "staged";
    case RolloutState.DONE:
      return "done";
    case RolloutState.ROLLED_BACK:
      return "taken back";
    default:
      return "in a state that this build does not know";
  }
}
