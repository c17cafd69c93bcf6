/** What a change would do, resource by resource and field by field. */
import { create } from "@bufbuild/protobuf";
import {
  ChangeKind,
  type FieldChange,
  FieldChangeSchema,
  type PlannedChange,
  PlannedChangeSchema,
} from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { compareText } from "../../proto/resources/problem.ts";
import type { Json } from "../../proto/resources/shape.ts";
import { type Leaf, writeForm } from "../../proto/resources/written.ts";
import { wholeOnce } from "../encoded.ts";
import { keyOf, keyText } from "../store/change.ts";
import type { ResourceKey, StoredResource } from "../store/store.ts";

/** Fields that are told of one resource at most: more than a person reads, and few enough that a plan of thousands of resources is small. */
const fieldsMax = 100;
/** Fields that are told in one plan at most: with them it stays below a megabyte, which every client takes. */
const planFieldsMax = 5_000;
/** Characters of a value that are told at most: a plan is read on a terminal. */
const valueMax = 200;
/** What stands for a value that may be a secret. */
const notShown = '"(not shown)"';

/** A resource before or after, and who it belongs to. */
export type Owned = Pick<StoredResource, "resource" | "owner">;

/** Resources by the text of their keys. */
export type Standing<Of extends Owned = Owned> = ReadonlyMap<string, Of>;

/** Resources as what stands. */
export function standingOf<Of extends Owned>(resources: readonly Of[]): Standing<Of> {
  return new Map(resources.map((one) => [keyText(keyOf(one.resource)), one]));
}

/**
 * What becomes of each of these resources, sorted by kind, namespace and name. Those that are in neither state are left out, and so are
 * those that stay the same unless `unchanged` says otherwise.
 */
export function planOf(
  before: Standing,
  after: Standing,
  keys: Iterable<string>,
  { unchanged }: { readonly unchanged: boolean },
): PlannedChange[] {
  const changes: PlannedChange[] = [];
  let fields = 0;
  for (const key of [...new Set(keys)].sort(compareText)) {
    const change = changeOf(before.get(key), after.get(key));
    if (change === undefined || (!unchanged && change.change === ChangeKind.UNCHANGED)) continue;
    const told = Math.min(change.fields.length, planFieldsMax - fields);
    change.fieldsLeftOut += change.fields.length - told;
    change.fields.length = told;
    fields += told;
    changes.push(change);
  }
  return changes;
}

/** A change without its fields, as records have it. */
export function plannedChange(name: ResourceKey, change: ChangeKind): PlannedChange {
  return create(PlannedChangeSchema, { name: { ...name }, change });
}

function changeOf(before: Owned | undefined, after: Owned | undefined): PlannedChange | undefined {
  if (before === undefined) return after === undefined ? undefined : plannedChange(keyOf(after.resource), ChangeKind.CREATE);
  if (after === undefined) return plannedChange(keyOf(before.resource), ChangeKind.DELETE);
  const fields = isSame(before, after) ? [] : fieldChanges(before, after);
  const change = plannedChange(keyOf(after.resource), fields.length === 0 ? ChangeKind.UNCHANGED : ChangeKind.UPDATE);
  change.fields = fields.slice(0, fieldsMax);
  change.fieldsLeftOut = Math.max(0, fields.length - fieldsMax);
  return change;
}

/** Whether two resources say the same and belong to the same. */
export function isSame(a: Owned, b: Owned): boolean {
  return a.owner === b.owner && Buffer.compare(wholeOnce(a.resource), wholeOnce(b.resource)) === 0;
}

function fieldChanges(before: Owned, after: Owned): FieldChange[] {
  const [left, right] = [leavesOf(before), leavesOf(after)];
  const fields: FieldChange[] = [];
  for (const field of new Set([...left.keys(), ...right.keys()])) {
    const [was, is] = [left.get(field), right.get(field)];
    if (was !== undefined && is !== undefined && JSON.stringify(was.json) === JSON.stringify(is.json)) continue;
    // If one of the two may not be shown, neither is: what is left would tell what kind of secret it was.
    const showable = (was?.showable ?? true) && (is?.showable ?? true);
    fields.push(create(FieldChangeSchema, { field, before: shownLeaf(was, showable), after: shownLeaf(is, showable) }));
  }
  return fields;
}

function leavesOf({ resource, owner }: Owned): ReadonlyMap<string, Leaf> {
  const { leaves } = writeForm(resource);
  return owner === "" ? leaves : new Map([...leaves, ["owner", { json: owner, showable: true }]]);
}

function shownLeaf(leaf: Leaf | undefined, showable: boolean): string {
  if (leaf === undefined) return "";
  if (!showable) return notShown;
  return shortened(leaf.json);
}

function shortened(json: Json): string {
  const text = JSON.stringify(json);
  if (text.length <= valueMax) return text;
  return typeof json === "string" ? JSON.stringify(`${json.slice(0, valueMax)}…`) : `${text.slice(0, valueMax)}…`;
}
