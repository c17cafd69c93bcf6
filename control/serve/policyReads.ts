/** What PolicyService reads: lists in pages, revisions, what differs between two of them, and what changes from now on. */
import { create, type MessageShape, toBinary } from "@bufbuild/protobuf";
import {
  type ListResourcesRequestSchema,
  ListResourcesResponseSchema,
  ListRevisionsResponseSchema,
  type Revision,
  RevisionSchema,
  type StoredResource as StoredMessage,
  StoredResourceSchema,
  type WatchResourcesRequestSchema,
  type WatchResourcesResponse,
  WatchResourcesResponseSchema,
} from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { isKindName, kindNames } from "../../proto/resources/kinds.ts";
import { sha256 } from "../sha256.ts";
import { keyOf, keyText } from "../store/change.ts";
import type { PolicyStore, StoredPolicy, StoredResource } from "../store/store.ts";
import { controlFault } from "./fault.ts";
import { planOf, type Standing, standingOf } from "./plan.ts";
import { invalid, nameMessage, problemMessages, revisionMessage, storedMessage } from "./policyMessages.ts";

/** Bytes of one page or one message of a watch: clients of gRPC take 4 MiB unless they are set otherwise. */
const pageBytesMax = 3 * 1024 * 1024;
/** Revisions that are read from the store in one go. */
const revisionsAtOnce = 10;
/** Revisions that wait for a slow watcher; beyond them it gets several in one. */
const waitingMax = 64;

/** One page of the resources that fit a request. */
export async function list(store: PolicyStore, request: MessageShape<typeof ListResourcesRequestSchema>) {
  checkKind(request.kind);
  const size = request.pageSize === 0 ? 100 : request.pageSize;
  const filter = sha256(JSON.stringify([request.kind, request.namespace, Object.entries(request.labels).sort(), request.owner])).slice(
    0,
    16,
  );
  const newest = await readStore(store);
  let policy = newest;
  let after = "";
  if (request.pageToken !== "") {
    const token = readPageToken(request.pageToken);
    if (token.filter !== filter || typeof token.revision !== "number" || typeof token.after !== "string") {
      throw invalid("page_token", "The page token belongs to another list. Begin again without one.");
    }
    // All pages show one revision, so that a list is never half of one policy and half of another.
    policy = token.revision === newest.revision ? newest : await policyAt(store, token.revision);
    after = token.after;
  }
  const page: StoredMessage[] = [];
  let bytes = 0;
  let last = "";
  let more = false;
  for (const stored of policy.resources) {
    const key = keyText(keyOf(stored.resource));
    if (key <= after || !fits(stored, request)) continue;
    const message = storedMessage(stored);
    const size_ = toBinary(StoredResourceSchema, message).length;
    if (page.length === size || (page.length > 0 && bytes + size_ > pageBytesMax)) {
      more = true;
      break;
    }
    page.push(message);
    bytes += size_;
    last = key;
  }
  return create(ListResourcesResponseSchema, {
    resources: page,
    nextPageToken: more ? pageToken({ revision: policy.revision, after: last, filter }) : "",
    revision: BigInt(policy.revision),
    problems: problemMessages(newest.problems),
  });
}

/** Refuses a kind that there is none of: an empty list would say that there are no such resources. */
function checkKind(kind: string): void {
  if (kind === "" || isKindName(kind)) return;
  throw invalid("kind", `There is no kind '${kind.slice(0, 64)}'. Kinds are ${kindNames.join(", ")}.`);
}

/** Revisions from the one before `from`, or the newest, downwards. */
export async function listRevisions(store: PolicyStore, size: number, from: number | undefined) {
  const revisions: Revision[] = [];
  let bytes = 0;
  // A few at a time: one revision may tell of thousands of resources.
  for (let before = from; ; before = Number(revisions.at(-1)?.revision)) {
    const found = await reading(() => store.revisions(revisionsAtOnce, before));
    for (const record of found) {
      const message = revisionMessage(record);
      bytes += toBinary(RevisionSchema, message).length;
      if (revisions.length === size || (revisions.length > 0 && bytes > pageBytesMax)) {
        const nextPageToken = pageToken({ before: Number(revisions.at(-1)?.revision) });
        return create(ListRevisionsResponseSchema, { revisions, nextPageToken });
      }
      revisions.push(message);
    }
    if (found.length < revisionsAtOnce) return create(ListRevisionsResponseSchema, { revisions });
  }
}

function fits(
  { resource, owner }: StoredResource,
  wanted: Pick<MessageShape<typeof ListResourcesRequestSchema>, "kind" | "namespace"> & {
    readonly labels?: Readonly<Record<string, string>>;
    readonly owner?: string;
  },
): boolean {
  const { kind, namespace } = keyOf(resource);
  if (wanted.kind !== "" && wanted.kind !== kind) return false;
  if (wanted.namespace !== "" && wanted.namespace !== namespace) return false;
  if (wanted.owner !== undefined && wanted.owner !== "" && wanted.owner !== owner) return false;
  return Object.entries(wanted.labels ?? {}).every(([label, value]) => resource.metadata?.labels[label] === value);
}

/** Tells what fits, then every change of it, until the caller leaves; until control stops, with a fault. */
export async function* watch(
  store: PolicyStore,
  wanted: MessageShape<typeof WatchResourcesRequestSchema>,
  signal: AbortSignal,
  stopping: AbortSignal,
): AsyncGenerator<WatchResourcesResponse> {
  checkKind(wanted.kind);
  const first = await readStore(store);
  const waiting: StoredPolicy[] = [];
  let wake: (() => void) | undefined;
  const stop = store.watch(
    first.revision,
    (policy) => {
      // A slow watcher misses no state, only the steps between: what it is told is the difference to what it has.
      if (waiting.length === waitingMax) waiting.shift();
      waiting.push(policy);
      wake?.();
    },
    // Why the store cannot be followed is the log's affair; the next revision shows that it can be again.
    () => undefined,
  );
  const left = (): void => wake?.();
  signal.addEventListener("abort", left, { once: true });
  stopping.addEventListener("abort", left, { once: true });
  try {
    let sent: Standing<StoredResource> = new Map();
    for (let policy: StoredPolicy | undefined = first, begin = true; ; begin = false) {
      const now = standingOf(policy.resources.filter((one) => fits(one, wanted)));
      yield* differenceMessages(sent, now, policy.revision, begin);
      sent = now;
      while (waiting.length === 0 && !signal.aborted && !stopping.aborted) {
        await new Promise<void>((woken) => {
          wake = woken;
        });
        wake = undefined;
      }
      policy = waiting.shift();
      if (stopping.aborted) throw controlFault("STOPPING", "This control stops. Watch again; another one, or this one again, will answer.");
      if (policy === undefined || signal.aborted) return;
    }
  } finally {
    stop();
    signal.removeEventListener("abort", left);
    stopping.removeEventListener("abort", left);
  }
}

/** What a watcher that has `sent` needs to know of what is `now`, in messages that every client takes. */
function* differenceMessages(
  sent: Standing<StoredResource>,
  now: Standing<StoredResource>,
  revision: number,
  begin: boolean,
): Generator<WatchResourcesResponse> {
  const upserts = [...now].filter(([key, one]) => sent.get(key)?.revision !== one.revision).map(([, one]) => storedMessage(one));
  const removals = [...sent].filter(([key]) => !now.has(key)).map(([, { resource }]) => nameMessage(keyOf(resource)));
  let message = create(WatchResourcesResponseSchema, { revision: BigInt(revision), removals });
  let bytes = 0;
  for (const upsert of upserts) {
    const size = toBinary(StoredResourceSchema, upsert).length;
    if (bytes > 0 && bytes + size > pageBytesMax) {
      yield message;
      message = create(WatchResourcesResponseSchema, { revision: BigInt(revision) });
      bytes = 0;
    }
    message.upserts.push(upsert);
    bytes += size;
  }
  message.synchronized = true;
  // A revision that changes nothing of what is watched is no news.
  if (begin || message.upserts.length + message.removals.length > 0) yield message;
}

/** What has become of every resource from one policy to another. */
export function differences(from: StoredPolicy, to: StoredPolicy) {
  const [before, after] = [standingOf(from.resources), standingOf(to.resources)];
  return planOf(before, after, [...before.keys(), ...after.keys()], { unchanged: false });
}

/** The policy as of a revision, or a fault. */
export async function policyAt(store: PolicyStore, revision: number): Promise<StoredPolicy> {
  const policy = await reading(() => store.readAt(revision));
  if (policy !== undefined) return policy;
  const message = `Revision ${revision} is not known: it never was, or is no longer remembered. \`outrigger revisions\` lists those that are.`;
  throw controlFault("REVISION_NOT_FOUND", message, { facts: { revision: String(revision) } });
}

/** The policy that holds, or a fault. */
export function readStore(store: PolicyStore): Promise<StoredPolicy> {
  return reading(() => store.read());
}

async function reading<Result>(read: () => Promise<Result>): Promise<Result> {
  try {
    return await read();
  } catch (cause) {
    throw controlFault("STORE_UNAVAILABLE", "The store of policy cannot be read now. Control's log has the cause.", { cause });
  }
}

/** Where a list goes on. Not a secret and not signed: it says nothing that its holder may not read anyway. */
function pageToken(content: Readonly<Record<string, string | number>>): string {
  return Buffer.from(JSON.stringify(content)).toString("base64url");
}

function readPageToken(text: string): Readonly<Record<string, unknown>> {
  try {
    const read: unknown = JSON.parse(Buffer.from(text, "base64url").toString());
    if (typeof read === "object" && read !== null && !Array.isArray(read)) return { ...read };
  } catch {
    // Told below, as for everything else that is none.
  }
  throw invalid("page_token", "The page token is none of this control's. Begin again without one.");
}

/** The revision at which a list of revisions goes on. */
export function revisionOfToken(text: string): number {
  const { before } = readPageToken(text);
  if (typeof before === "number" && Number.isSafeInteger(before) && before > 0) return before;
  throw invalid("page_token", "The page token belongs to another list. Begin again without one.");
}
