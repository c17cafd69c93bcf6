/**
 * When a change of policy may go further, and when it is taken back. Pure: what was seen goes in, a verdict comes out.
 *
 * A change goes to one sidecar, then to 1 %, 10 % and 50 % of those that it concerns, then to all. Each stage contains the one before:
 * sidecars are put in an order that is drawn anew for each roll-out, and a stage is its beginning. At every stage its members' calls are
 * compared with the calls of everybody else, and with how calls usually went.
 *
 * Rates are judged as they come in by a sequential test (Wald's ratio of likelihoods): the members' share of bad calls is either the usual
 * one, or worse by a margin that matters. The longer the row of bad calls the likelier the second, and once it is a thousand times likelier
 * the change is taken back. So a policy that fails every call is noticed after a handful of calls, and one that fails a few more than usual
 * after some hundred, and looking often makes false alarms no likelier than one in a thousand.
 */
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { Status } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";

/** The share of the sidecars concerned that a stage has; 0 stands for a single one. */
export const stages: readonly number[] = Object.freeze([0, 0.01, 0.1, 0.5, 1]);

/** How patient a roll-out is. */
export interface RolloutRules {
  /** How long a stage is watched at least, from when its members enforce the change. */
  readonly bakeMs: number;
  /** Calls that a stage must have seen before the next. */
  readonly callsMin: number;
  /** After this long a stage goes on without having seen them: nights are quiet. */
  readonly quietMs: number;
  /** How long a member may take to enforce the change. */
  readonly enforceMs: number;
  /** How long a member may be gone before it counts as crashed: longer than a reconnect, shorter than a pod's restart with backoff. */
  readonly goneMs: number;
}

/** Half a minute is three reports of every member; two minutes and a half for a roll-out that nothing stops. */
export const rolloutDefaults: RolloutRules = Object.freeze({
  bakeMs: 30_000,
  callsMin: 20,
  quietMs: 600_000,
  enforceMs: 60_000,
  goneMs: 15_000,
});

/** How calls went, added up. */
export interface Tally {
  readonly calls: number;
  readonly failed: number;
  readonly blocked: number;
  /** The medians of the time to first content, each times its calls, and those calls. */
  readonly firstContentMs: number;
  readonly firstContentCalls: number;
  /** Reports, and those among them in which the event loop was held up. */
  readonly reports: number;
  readonly lateReports: number;
}

/** No calls. */
export const noCalls: Tally = Object.freeze({
  calls: 0,
  failed: 0,
  blocked: 0,
  firstContentMs: 0,
  firstContentCalls: 0,
  reports: 0,
  lateReports: 0,
});

/** What was seen of a stage. */
export interface Evidence {
  readonly nowMs: number;
  readonly stageBeganMs: number;
  /** Members that are connected, or were when they got the change. */
  readonly members: number;
  /** Members that enforce it. */
  readonly enforced: number;
  /** Members that refused it. */
  readonly refused: number;
  /** Members that were lost after they enforced it and did not come back, or were lost more than once. */
  readonly crashed: number;
  /** The others that were lost in the same way in the same time, and how many others there are. */
  readonly othersCrashed: number;
  readonly others: number;
  /** Calls of members under the change. */
  readonly calls: Tally;
  /** Calls as they usually go. */
  readonly usual: Tally;
}

/** What shall become of a roll-out. */
export type Verdict = { readonly is: "wait" } | { readonly is: "advance" } | { readonly is: "breach"; readonly reason: string };

/** How many of so many sidecars a stage has. */
export function stageSize(stage: number, concerned: number): number {
  return Math.min(concerned, Math.max(1, Math.floor((stages[stage] ?? 1) * concerned)));
}

/** Judges a stage. */
export function judge(evidence: Evidence, rules: RolloutRules): Verdict {
  const { nowMs, stageBeganMs, members, enforced, refused, crashed, calls, usual } = evidence;
  const passedMs = nowMs - stageBeganMs;
  const breach = (reason: string): Verdict => ({ is: "breach", reason });
  if (refused > 0) return breach(`${refused} of ${members} sidecars refused it`);
  // The first member stands for all: if it is lost, what that means is better found out without the change.
  if (crashed > 0 && (members === 1 || isWorse(crashed, members, evidence.othersCrashed, evidence.others)))
    return breach(`${crashed} of ${members} sidecars were lost after they took it`);
  if (isWorse(calls.failed, calls.calls, usual.failed, usual.calls))
    return breach(`${calls.failed} of ${calls.calls} calls failed under it; usual are ${percent(usual.failed, usual.calls)}`);
  if (isWorse(calls.blocked, calls.calls, usual.blocked, usual.calls))
    return breach(`${calls.blocked} of ${calls.calls} calls were blocked under it; usual are ${percent(usual.blocked, usual.calls)}`);
  if (isWorse(calls.lateReports, calls.reports, usual.lateReports, usual.reports))
    return breach(`${calls.lateReports} of ${calls.reports} times the event loop was held up under it`);
  if (isSlower(calls, usual, rules.callsMin)) {
    const [now, before] = [firstContentMs(calls), firstContentMs(usual)].map(Math.round);
    return breach(`the first content came after ${now} ms under it; usual are ${before} ms`);
  }
  if (enforced === 0 && members > 0 && passedMs > rules.enforceMs)
    return breach(`none of ${members} sidecars took it within ${rules.enforceMs / 1000} s`);
  // A few that are stuck hold up nobody else.
  if (enforced < members * 0.95 && passedMs <= rules.enforceMs) return { is: "wait" };
  if (passedMs < rules.bakeMs) return { is: "wait" };
  if (calls.calls < rules.callsMin && passedMs < rules.quietMs) return { is: "wait" };
  return { is: "advance" };
}

/** What a sidecar reports, as a tally. */
export function tallyOf(status: Status): Tally {
  const calls = Number(status.calls);
  const medianMs = status.firstContentP50 === undefined ? undefined : durationMs(status.firstContentP50);
  const lateMs = status.loopDelayMax === undefined ? 0 : durationMs(status.loopDelayMax);
  return {
    calls,
    failed: Math.min(Number(status.failedCalls), calls),
    blocked: Math.min(Number(status.blockedCalls), calls),
    firstContentMs: medianMs === undefined ? 0 : medianMs * calls,
    firstContentCalls: medianMs === undefined ? 0 : calls,
    reports: 1,
    lateReports: lateMs > lateLoopMs ? 1 : 0,
  };
}

/** Two tallies as one; what was before counts by `weight`. */
export function add(before: Tally, more: Tally, weight = 1): Tally {
  return {
    calls: before.calls * weight + more.calls,
    failed: before.failed * weight + more.failed,
    blocked: before.blocked * weight + more.blocked,
    firstContentMs: before.firstContentMs * weight + more.firstContentMs,
    firstContentCalls: before.firstContentCalls * weight + more.firstContentCalls,
    reports: before.reports * weight + more.reports,
    lateReports: before.lateReports * weight + more.lateReports,
  };
}

/** A delay of the event loop that callers notice. */
const lateLoopMs = 250;
/** How much likelier "worse" must be than "as usual". */
const oddsMin = 1_000;
/** No rate is taken to be lower: one bad call among the first few says nothing. */
const rateMin = 0.02;
/** A rate that is higher by this much matters. */
const rateMargin = 0.1;

/** Whether a share of bad ones is worse than usual, by the sequential test. */
function isWorse(bad: number, total: number, usualBad: number, usualTotal: number): boolean {
  const usual = Math.min(Math.max(usualTotal === 0 ? 0 : usualBad / usualTotal, rateMin), 0.9);
  const worse = Math.min(usual + Math.max(rateMargin, usual), 0.99);
  const good = Math.max(total - bad, 0);
  return bad * Math.log(worse / usual) + good * Math.log((1 - worse) / (1 - usual)) >= Math.log(oddsMin);
}

/** Whether the first content comes so much later that people notice. */
function isSlower(calls: Tally, usual: Tally, callsMin: number): boolean {
  if (calls.firstContentCalls < callsMin || usual.firstContentCalls < callsMin) return false;
  return firstContentMs(calls) > 2 * firstContentMs(usual) + 500;
}

function firstContentMs(tally: Tally): number {
  return tally.firstContentCalls === 0 ? 0 : tally.firstContentMs / tally.firstContentCalls;
}

function percent(part: number, whole: number): string {
  return `${whole === 0 ? 0 : Math.round((part / whole) * 1000) / 10} %`;
}
