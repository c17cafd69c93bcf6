/**
 * What control knows of its sidecars, connected or not: what each enforces, what it should, and why not. Nothing here decides anything.
 */

import type { PolicyProblem } from "../../proto/gen/outrigger/policy/v1/resource_pb.ts";
import type { BootSource } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { compareText } from "../../proto/resources/problem.ts";
import type { Tally } from "./rollout.ts";

/** A sidecar that is gone is remembered for as long as somebody may come and ask what it was. */
const rememberMs = 24 * 60 * 60 * 1000;
/** Sidecars that are gone and remembered at most, the oldest being forgotten first: pods come and go by the thousand. */
const goneMax = 20_000;

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

/** All sidecars. */
export interface Fleet {
  /** The record of a sidecar that connects now. */
  connect(name: SidecarName, nowMs: number): SidecarRecord;
  /** It is not connected any more. */
  disconnect(record: SidecarRecord, nowMs: number): void;
  /** What it should enforce from now on. */
  want(record: SidecarRecord, root: string, revision: number, nowMs: number): void;
  /** It says that it enforces a root. */
  enforce(record: SidecarRecord, root: string, revision: number, nowMs: number): void;
  find(key: string): SidecarRecord | undefined;
  /** Sorted by namespace, account and instance. */
  list(): readonly SidecarRecord[];
  /** Forgets those that are gone for long. */
  tidy(nowMs: number): void;
}

/** By what a sidecar is found. */
export function keyOf({ namespace, account, instance }: SidecarName): string {
  return `${namespace}/${account}/${instance}`;
}

/** Begins with no sidecar. */
export function openFleet(noCalls: Tally): Fleet {
  const records = new Map<string, SidecarRecord>();
  let sorted: SidecarRecord[] | undefined;

  function update(record: SidecarRecord, nowMs: number): void {
    // Whoever should enforce nothing yet is not behind.
    const behind = record.wanted.root !== "" && record.root !== record.wanted.root;
    record.behindSinceMs = behind ? (record.behindSinceMs ?? nowMs) : undefined;
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
      return record;
    },
    disconnect(record, nowMs) {
      record.connected = false;
      record.lastHeardMs = nowMs;
      // Those that are gone stand in the order in which they went.
      records.delete(record.key);
      records.set(record.key, record);
    },
    want(record, root, revision, nowMs) {
      if (record.refusal !== undefined && record.refusal.root !== root) record.refusal = undefined;
      // Another change while it is behind makes it no less so: since when is kept.
      record.wanted = { root, revision };
      update(record, nowMs);
    },
    enforce(record, root, revision, nowMs) {
      if (record.root !== root) record.enforcedSinceMs = nowMs;
      record.root = root;
      record.revision = revision;
      if (record.refusal?.root === root) record.refusal = undefined;
      update(record, nowMs);
    },
    find: (key) => records.get(key),
    list() {
      sorted ??= [...records.values()].sort(
        (a, b) => compareText(a.namespace, b.namespace) || compareText(a.account, b.account) || compareText(a.instance, b.instance),
      );
      return sorted;
    },
    tidy(nowMs) {
      const gone = [...records.values()].filter(({ connected }) => !connected);
      gone.forEach((record, at) => {
        if (gone.length - at <= goneMax && nowMs - record.lastHeardMs <= rememberMs) return;
        records.delete(record.key);
        sorted = undefined;
      });
    },
  };
}
