/**
 * What control knows of its sidecars, connected or not: what each enforces, what it should, and why not. Nothing here decides anything.
 */

import type { PolicyProblem } from "../../proto/gen/outrigger/policy/v1/resource_pb.ts";
import type { BootSource } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { compareText } from "../../proto/resources/problem.ts";
import type { FleetFigures } from "./metrics.ts";
import { noCalls, type Tally } from "./rollout.ts";

/** A sidecar that vanished is remembered for as long as somebody may come and ask what became of it. */
const rememberMs = 24 * 60 * 60 * 1000;
/** Sidecars that are away and remembered at most, the oldest being forgotten first: as many as one control has streams. */
const awayMax = 20_000;
/** After control's start nobody is forgotten for this long, however long control was away: sidecars come back within half a minute. */
const returnMs = 10 * 60 * 1000;

/** Who a sidecar is. */
export interface SidecarName {
  readonly namespace: string;
  readonly account: string;
  /** Its own name for itself, unique at one time. */
  readonly instance: string;
}

/** What is known of one sidecar. Times are in milliseconds since 1970. */
export interface SidecarRecord extends SidecarName {
  readonly key: string;
  build: string;
  capabilityLevel: number;
  connected: boolean;
  lastHeardMs: number;
  /** What it enforces, by its own word. */
  root: string;
  revision: number;
  enforcedSinceMs: number;
  applyUs: number;
  /** What it should enforce. */
  wanted: { readonly root: string; readonly revision: number };
  /** Since when it does not; undefined if it does. */
  behindSinceMs: number | undefined;
  refusal: { readonly root: string; readonly problems: readonly PolicyProblem[] } | undefined;
  bootedFrom: BootSource;
  /** How its calls went lately under the policy that everybody has. */
  usual: Tally;
}

/** Hears of every change that should outlast control, at the moment of it; `gone` says that nothing of the sidecar is to be remembered. */
export type FleetListener = (record: SidecarRecord, gone: boolean) => void;

/** All sidecars. */
export interface Fleet {
  /** The record of a sidecar that connects now. */
  connect(name: SidecarName, nowMs: number): SidecarRecord;
  /** It is not connected any more, and may come back. */
  disconnect(record: SidecarRecord, nowMs: number): void;
  /** It is not connected any more, and is not missed. */
  forget(record: SidecarRecord): void;
  /** What it should enforce from now on. */
  want(record: SidecarRecord, root: string, revision: number, nowMs: number): void;
  /** It says that it enforces a root. */
  enforce(record: SidecarRecord, root: string, revision: number, nowMs: number): void;
  /** It cannot enforce a root, or will not. */
  refuse(record: SidecarRecord, root: string, problems: readonly PolicyProblem[]): void;
  find(key: string): SidecarRecord | undefined;
  /** Sorted by namespace, account and instance. */
  list(): readonly SidecarRecord[];
  /** Forgets those that are away for long. */
  tidy(nowMs: number): void;
}

/** How many of some sidecars are how. */
export function countFleet(records: readonly SidecarRecord[], nowMs: number): FleetFigures {
  let [current, behind, away, behindMs] = [0, 0, 0, 0];
  for (const { connected, behindSinceMs } of records) {
    if (!connected) away += 1;
    else if (behindSinceMs === undefined) current += 1;
    else {
      behind += 1;
      behindMs = Math.max(behindMs, nowMs - behindSinceMs);
    }
  }
  return { current, behind, away, behindMs };
}

/** By what a sidecar is found. */
export function keyOf({ namespace, account, instance }: SidecarName): string {
  return `${namespace}/${account}/${instance}`;
}

/** Begins with what is remembered of sidecars from before the start, none of which is connected yet; those that were heard of longest ago first. */
export function openFleet(remembered: readonly SidecarRecord[], startedMs: number, changed: FleetListener): Fleet {
  const records = new Map(remembered.map((record) => [record.key, record]));
  let sorted: SidecarRecord[] | undefined;

  function update(record: SidecarRecord, nowMs: number): void {
    // Whoever should enforce nothing yet is not behind.
    const behind = record.wanted.root !== "" && record.root !== record.wanted.root;
    const sinceMs = behind ? (record.behindSinceMs ?? nowMs) : undefined;
    if (record.behindSinceMs === sinceMs) return;
    record.behindSinceMs = sinceMs;
    changed(record, false);
  }

  function remove(record: SidecarRecord): void {
    records.delete(record.key);
    sorted = undefined;
    changed(record, true);
  }

  return {
    connect({ namespace, account, instance }, nowMs) {
      const key = keyOf({ namespace, account, instance });
      let record = records.get(key);
      if (record === undefined) {
        sorted = undefined;
        record = {
          key,
          namespace,
          account,
          instance,
          build: "",
          capabilityLevel: 0,
          connected: true,
          lastHeardMs: nowMs,
          root: "",
          revision: 0,
          enforcedSinceMs: 0,
          applyUs: 0,
          wanted: { root: "", revision: 0 },
          behindSinceMs: undefined,
          refusal: undefined,
          bootedFrom: 0,
          usual: noCalls,
        };
        records.set(key, record);
      }
      record.connected = true;
      record.lastHeardMs = nowMs;
      changed(record, false);
      return record;
    },
    disconnect(record, nowMs) {
      record.connected = false;
      record.lastHeardMs = nowMs;
      // Those that are away stand in the order in which they went.
      records.delete(record.key);
      records.set(record.key, record);
      changed(record, false);
    },
    forget: remove,
    want(record, root, revision, nowMs) {
      if (record.refusal !== undefined && record.refusal.root !== root) record.refusal = undefined;
      // Another change while it is behind makes it no less so: since when is kept.
      record.wanted = { root, revision };
      update(record, nowMs);
    },
    enforce(record, root, revision, nowMs) {
      if (record.root !== root) {
        record.enforcedSinceMs = nowMs;
        changed(record, false);
      }
      record.root = root;
      record.revision = revision;
      if (record.refusal?.root === root) record.refusal = undefined;
      update(record, nowMs);
    },
    refuse(record, root, problems) {
      if (record.refusal?.root === root && record.refusal.problems === problems) return;
      record.refusal = { root, problems };
      changed(record, false);
    },
    find: (key) => records.get(key),
    list() {
      sorted ??= [...records.values()].sort(
        (a, b) => compareText(a.namespace, b.namespace) || compareText(a.account, b.account) || compareText(a.instance, b.instance),
      );
      return sorted;
    },
    tidy(nowMs) {
      const away = [...records.values()].filter(({ connected }) => !connected);
      away.forEach((record, at) => {
        const isMissed = nowMs - record.lastHeardMs <= rememberMs || nowMs - startedMs <= returnMs;
        if (!isMissed || away.length - at > awayMax) remove(record);
      });
    },
  };
}
