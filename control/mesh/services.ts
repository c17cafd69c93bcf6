/** The services of the mesh as they are served: streams, single requests that do the same, and what people ask about sidecars. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type DurationSchema, durationFromMs, durationMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ConnectError, type ContextValues, type ServiceImpl } from "@connectrpc/connect";
import type {
  MeshService,
  Opening,
  PollRequest,
  PollResponseSchema,
  SubscribeRequest,
  SubscribeResponse,
} from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import {
  EndRolloutResponseSchema,
  ListRolloutsResponseSchema,
  ListSidecarsResponseSchema,
  type RolloutSchema,
  type SidecarService,
  type SidecarStatusSchema,
} from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { chunkBytesMax } from "../../proto/mesh.ts";
import { compareText } from "../../proto/resources/problem.ts";
import type { Clock } from "../clock.ts";
import { controlFault } from "../serve/fault.ts";
import { countFleet, type SidecarRecord } from "./fleet.ts";
import type { Joining } from "./joining.ts";
import type { Mesh, MeshPeer, MeshSession } from "./mesh.ts";
import type { RolloutFacts } from "./rollouts.ts";
import { openingMissing, openingMs, openingWrong } from "./subscribe.ts";

/** Bytes of a message of a sidecar at most: a refusal with a thousand problems is far below it. */
export const meshMessageBytesMax = 4 * 1024 * 1024;

/** Sidecars that poll at one time: a stopgap for networks that let no stream through, and each costs a session and a waiting request. */
const pollSessionsMax = 1_000;
/** How long a session without a request lives. */
const pollIdleMs = 30_000;
/** How long a request waits at most: intermediaries cut what is silent for longer. */
const pollWaitMaxMs = 30_000;
/** Messages in one request at most; a sidecar has one to say now and then. */
const pollMessagesMax = 64;
/** Bytes of content in one answer, beyond the last message. */
const pollBytesMax = 4 * chunkBytesMax;

/** What the services are made with. */
export interface ServiceParts {
  readonly mesh: Mesh;
  readonly joining: Joining;
  readonly clock: Clock;
  /** Names that nobody can guess. */
  readonly newId: () => string;
  /** What is known of the connection of a call. */
  readonly peerOf: (values: ContextValues) => MeshPeer;
  /** The name of the token with which somebody calls, for the record. */
  readonly callerOf: (values: ContextValues) => string;
}

/** The streams of sidecars. */
export function createMeshService(parts: ServiceParts): ServiceImpl<typeof MeshService> {
  const { mesh, clock, peerOf, joining } = parts;
  const polls = new Polls(parts);
  return {
    async *subscribe(requests, context) {
      const incoming = requests[Symbol.asyncIterator]();
      const opening = await firstMessage(incoming, clock);
      const session = await mesh.open(opening, peerOf(context.values));
      context.signal.addEventListener("abort", () => session.close());
      void hear(incoming, session);
      try {
        for (;;) {
          const message = await session.next();
          if (message === undefined) return;
          yield message;
        }
      } finally {
        session.close();
      }
    },
    poll: (request, context) => polls.poll(request, peerOf(context.values)),
    join: (request, context) => joining.join(request, peerOf(context.values)),
  };
}

/** What people ask about sidecars. */
export function createSidecarService(parts: ServiceParts): ServiceImpl<typeof SidecarService> {
  const { mesh, clock, joining, callerOf } = parts;
  return {
    listSidecars({ namespace, behindOnly, connectedOnly, pageSize, pageToken }) {
      const nowMs = clock.wallMs();
      const all = mesh.sidecars();
      const isCurrent = (record: SidecarRecord): boolean => record.connected && record.behindSinceMs === undefined;
      const fitting = all.filter(
        (record) =>
          (namespace === "" || record.namespace === namespace) &&
          (!behindOnly || !isCurrent(record)) &&
          (!connectedOnly || record.connected) &&
          (pageToken === "" || compareText(sortKey(record), pageToken) > 0),
      );
      const page = fitting.slice(0, pageSize === 0 ? 100 : Math.min(pageSize, 1_000));
      const last = page.at(-1);
      const { current, away } = countFleet(all, nowMs);
      return create(ListSidecarsResponseSchema, {
        sidecars: page.map((record) => statusOf(record, nowMs)),
        nextPageToken: last === undefined || fitting.length === page.length ? "" : sortKey(last),
        revision: BigInt(mesh.revision),
        total: all.length,
        current,
        away,
      });
    },
    createJoinToken: (request) => joining.createToken(request),
    listRollouts: ({ pageSize }) =>
      create(ListRolloutsResponseSchema, { rollouts: mesh.rollouts(pageSize === 0 ? 20 : Math.min(pageSize, 200)).map(rolloutOf) }),
    endRollout({ id, promote }, context) {
      const rollout = mesh.decide(id, promote, callerOf(context.values));
      if (rollout !== undefined) return create(EndRolloutResponseSchema, { rollout: rolloutOf(rollout) });
      const past = mesh.rollouts(Number.MAX_SAFE_INTEGER).find((one) => one.id === id);
      throw past === undefined
        ? controlFault("RESOURCE_NOT_FOUND", `There is no roll-out ${id}. \`outrigger rollout list\` shows those that are remembered.`)
        : controlFault("ROLLOUT_ENDED", "This roll-out has ended already.");
    },
  };
}

/** Sorts as the list does: blanks stand before whatever names may have in them. */
function sortKey({ namespace, account, instance }: SidecarRecord): string {
  return `${namespace} ${account} ${instance}`;
}

function statusOf(record: SidecarRecord, nowMs: number): MessageInitShape<typeof SidecarStatusSchema> {
  const { instance, namespace, account, build, capabilityLevel, connected, root, wanted, behindSinceMs, refusal, bootedFrom } = record;
  return {
    instance,
    namespace,
    account,
    build,
    capabilityLevel,
    connected,
    lastHeard: timestampFromMs(record.lastHeardMs),
    root,
    revision: BigInt(record.revision),
    ...(root === "" ? {} : { enforcedSince: timestampFromMs(record.enforcedSinceMs) }),
    wantedRoot: wanted.root,
    wantedRevision: BigInt(wanted.revision),
    ...(behindSinceMs === undefined ? {} : { behind: durationFromMs(Math.max(nowMs - behindSinceMs, 0)) }),
    refusal: [...(refusal?.problems ?? [])],
    refusedRoot: refusal?.root ?? "",
    bootedFrom,
    ...(record.applyUs === 0 ? {} : { applyTime: durationFromMicros(record.applyUs) }),
  };
}

/** A duration from whole microseconds: of fractions of milliseconds, arithmetic leaves nanoseconds that are no whole number. */
function durationFromMicros(micros: number): MessageInitShape<typeof DurationSchema> {
  return { seconds: BigInt(Math.floor(micros / 1e6)), nanos: Math.round(micros % 1e6) * 1000 };
}

function rolloutOf(facts: RolloutFacts): MessageInitShape<typeof RolloutSchema> {
  const { id, state, shareMillionths, enforced, refused, reason, begunMs, endedMs } = facts;
  return {
    id,
    revision: BigInt(facts.revision),
    fromRevision: BigInt(facts.fromRevision),
    state,
    shareMillionths,
    enforced,
    refused,
    reason,
    begun: timestampFromMs(begunMs),
    ...(endedMs === undefined ? {} : { ended: timestampFromMs(endedMs) }),
  };
}

/** The sessions of sidecars that poll. */
class Polls {
  readonly #parts: ServiceParts;
  readonly #sessions = new Map<string, { readonly session: MeshSession; busy: boolean; stopIdling: () => void }>();

  constructor(parts: ServiceParts) {
    this.#parts = parts;
  }

  async poll(request: PollRequest, peer: MeshPeer): Promise<MessageInitShape<typeof PollResponseSchema>> {
    if (request.messages.length > pollMessagesMax)
      throw controlFault("REQUEST_INVALID", `A request has at most ${pollMessagesMax} messages.`);
    const [name, messages] =
      request.session === "" ? [await this.#open(request.messages, peer), request.messages.slice(1)] : [request.session, request.messages];
    const held = this.#sessions.get(name);
    if (held === undefined) throw controlFault("RESOURCE_NOT_FOUND", "There is no such session (any more). Begin another with an opening.");
    if (held.busy) throw controlFault("STREAM_REPLACED", "A session has one request at a time.");
    held.busy = true;
    held.stopIdling();
    try {
      for (const message of messages) held.session.receive(message);
      const answer = await this.#gather(held.session, request.wait === undefined ? 0 : durationMs(request.wait));
      return { session: name, messages: answer };
    } catch (error) {
      this.#end(name);
      throw error;
    } finally {
      held.busy = false;
      held.stopIdling = this.#parts.clock.after(pollIdleMs, () => this.#end(name));
    }
  }

  async #open(messages: readonly SubscribeRequest[], peer: MeshPeer): Promise<string> {
    const [first] = messages;
    if (first?.message.case !== "opening") throw controlFault("REQUEST_INVALID", "A session begins with an opening.");
    if (this.#sessions.size >= pollSessionsMax)
      throw controlFault("TOO_MANY_SIDECARS", `${pollSessionsMax} sidecars poll already, which is the limit. Let this one open a stream.`, {
        retryAfterMs: 30_000,
      });
    const session = await this.#parts.mesh.open(first.message.value, peer);
    const name = this.#parts.newId();
    this.#sessions.set(name, { session, busy: false, stopIdling: () => undefined });
    return name;
  }

  /** What there is to say by now; if there is nothing, the first thing that comes up before the time is over. */
  async #gather(session: MeshSession, waitMs: number): Promise<SubscribeResponse[]> {
    const messages: SubscribeResponse[] = [];
    const over = Promise.withResolvers<undefined>();
    const cancel = this.#parts.clock.after(Math.min(Math.max(waitMs, 0), pollWaitMaxMs), () => over.resolve(undefined));
    try {
      const first = await session.nextBefore(over.promise);
      if (first === undefined) return messages;
      messages.push(first);
      let bytes = contentBytes(first);
      while (bytes < pollBytesMax && messages.length < pollMessagesMax) {
        const message = session.take();
        if (message === undefined) break;
        messages.push(message);
        bytes += contentBytes(message);
      }
      return messages;
    } finally {
      cancel();
    }
  }

  #end(name: string): void {
    const held = this.#sessions.get(name);
    this.#sessions.delete(name);
    held?.stopIdling();
    held?.session.close();
  }
}

function contentBytes({ message }: SubscribeResponse): number {
  switch (message.case) {
    case "delta":
    case "manifest":
    case "trial":
      return message.value.content.length;
    case "chunk":
      return message.value.data.length;
    default:
      return 0;
  }
}

async function firstMessage(incoming: AsyncIterator<SubscribeRequest>, clock: Clock): Promise<Opening> {
  const late = Promise.withResolvers<never>();
  const cancel = clock.after(openingMs, () => late.reject(openingMissing()));
  try {
    const first = await Promise.race([incoming.next(), late.promise]);
    if (first.done === true || first.value.message.case !== "opening") throw openingWrong();
    return first.value.message.value;
  } finally {
    cancel();
  }
}

/** Takes in what a sidecar says for as long as it says something. */
async function hear(incoming: AsyncIterator<SubscribeRequest>, session: MeshSession): Promise<void> {
  try {
    for (;;) {
      const { value, done } = await incoming.next();
      if (done === true) break;
      session.receive(value);
    }
    session.close();
  } catch (error) {
    // What is no message ends the stream with why; of a connection that is cut nobody hears it.
    session.end(ConnectError.from(error));
  }
}
