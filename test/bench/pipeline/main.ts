/**
 * What the filters themselves cost when none has anything to do: the pipeline of a policy with one consumer and one route, around a wire
 * that answers at once. A process of its own, started by `main.ts`; nothing in it waits, so that all its time is the filters'.
 */
import { createHash, hash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import type { Batch } from "../../../proto/chat.ts";
import { endEvent, finishEvent, startEvent, textEvent, usageEvent } from "../../../proto/chat.ts";
import { ChatRequestSchema, FinishReason, UsageSchema } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { ConsumerSchema } from "../../../proto/gen/outrigger/policy/v1/consumer_pb.ts";
import { ModelRouteSchema } from "../../../proto/gen/outrigger/policy/v1/model_route_pb.ts";
import type { Resources } from "../../../proto/resources.ts";
import type { Call, CallConsumer, CallTarget, Next } from "../../../sidecar/call.ts";
import { newNotes, Secret } from "../../../sidecar/call.ts";
import { failover } from "../../../sidecar/filters/failover.ts";
import { compileIdentify } from "../../../sidecar/filters/identify.ts";
import { recall } from "../../../sidecar/filters/recall.ts";
import { record } from "../../../sidecar/filters/record.ts";
import { compileRoute } from "../../../sidecar/filters/route.ts";
import { shed } from "../../../sidecar/filters/shed.ts";
import { systemClock } from "../../../sidecar/io/clock.ts";
import { systemRandom } from "../../../sidecar/io/random.ts";
import { openTelemetry } from "../../../sidecar/io/telemetry.ts";
import { compose, type Filters, inOrder, send } from "../../../sidecar/pipeline.ts";
import { SealedTurns } from "../../../sidecar/sealedTurns.ts";
import { CALLER_KEY } from "../payloads.ts";

/** What filters add, in microseconds. */
export interface FilterCosts {
  /** To a unary call, its log line and counters included. */
  readonly callUs: number;
  /** To a batch of a stream: what an event costs that comes alone; events that come together share it. */
  readonly batchUs: number;
}

/** What all filters add together, and each by itself, in their order. */
export interface PipelineCosts extends FilterCosts {
  readonly each: readonly (FilterCosts & { readonly filter: string })[];
}

const BATCHES = 100;
// The least of so many tries: whatever disturbs only ever adds.
const TRIES = 7;

const unary: readonly Batch[] = [
  [
    startEvent("1", "m", 0, "gpt", "fake"),
    textEvent(0, "hi"),
    finishEvent(0, FinishReason.STOP, "stop"),
    usageEvent(create(UsageSchema, { inputTokens: 10n, outputTokens: 5n })),
    endEvent(),
  ],
];
const stream: readonly Batch[] = [...Array.from({ length: BATCHES }, () => [textEvent(0, "hi")]), [endEvent()]];

/** A wire that has its answer already. */
function answering(batches: readonly Batch[]): Next {
  return () => {
    let at = 0;
    const iterator: AsyncIterableIterator<Batch> = {
      [Symbol.asyncIterator]: () => iterator,
      next: () => {
        const value = batches[at++];
        return Promise.resolve(value === undefined ? { done: true, value } : { done: false, value });
      },
      return: () => Promise.resolve({ done: true, value: undefined }),
    };
    return iterator;
  };
}

/** A log that takes lines as the real one does, and forgets them in large pieces. */
const lines: Buffer[] = [];
function keep(line: string): void {
  if (lines.push(Buffer.from(line)) === 100) lines.length = 0;
}

/** The filters of the policy, whose one target answers by `wire`. */
function filtersAround(wire: Next): Filters {
  const metadata = { name: "gpt" };
  const sha256 = createHash("sha256").update(CALLER_KEY).digest("hex");
  const resources: Resources = {
    providers: [],
    routes: [create(ModelRouteSchema, { metadata, spec: { match: { models: ["gpt-*"] }, targets: [{ provider: "fake" }] } })],
    consumers: [create(ConsumerSchema, { metadata, spec: { identities: [{ kind: { case: "apiKey", value: { sha256 } } }] } })],
    priceBooks: [],
    grants: [],
  };
  const telemetry = openTelemetry({ level: "info", logOneIn: 1, version: "bench", node: process.version }, { write: keep }, systemClock);
  const identify = compileIdentify(
    resources,
    (text) => hash("sha256", text, "hex"),
    (call, fault) => telemetry.refused(call.door, call.id, fault),
  );
  return {
    identify: identify.filter,
    record: record(() => undefined, telemetry.write, systemClock),
    shed: shed({ callsMax: 1000, saturated: () => false }, systemClock),
    route: compileRoute(resources, () => () => ({ send: wire, seals: undefined }), systemRandom()).filter,
    failover,
    recall: recall(new SealedTurns({ bytesMax: 1e6, turnsMax: 100, idleMs: 1e6 }, systemClock), (text) => hash("sha256", text, "hex")),
  };
}

const request = create(ChatRequestSchema, { model: "gpt-bench" });
const credential = new Secret(CALLER_KEY);
const { signal } = new AbortController();

/** What the filters before one have found, for a filter that stands by itself. */
const consumer: CallConsumer = { namespace: "default", name: "gpt", team: "", routes: new Set() };
const target: CallTarget = {
  route: "gpt",
  provider: "fake",
  model: "gpt-bench",
  dropUnsupported: false,
  send: answering(unary),
  seals: undefined,
};

async function ask(answer: Next, known: Pick<Call, "consumer" | "target">): Promise<void> {
  const call: Call = {
    id: "d3d6d206162c7fc0b548b50f2383910e",
    door: "openai",
    request,
    native: undefined,
    streaming: false,
    nativeStreamUsage: true,
    validateOnly: false,
    countOnly: false,
    credential,
    traceparent: undefined,
    signal,
    startedAtMs: performance.now(),
    deadlineAtMs: Number.POSITIVE_INFINITY,
    ...known,
    warnings: [],
    watch: undefined,
    notes: newNotes(false),
  };
  const iterator = answer(call)[Symbol.asyncIterator]();
  while ((await iterator.next()).done !== true);
}

/** The least CPU time of a call over several tries, in microseconds. */
async function timed(answer: Next, calls: number, known: Pick<Call, "consumer" | "target">): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let tried = 0; tried < TRIES; tried++) {
    const before = process.cpuUsage();
    for (let i = 0; i < calls; i++) await ask(answer, known);
    const used = process.cpuUsage(before);
    least = Math.min(least, (used.user + used.system) / calls);
  }
  return least;
}

/** What a way adds to the wire behind it. */
async function costsOf(way: (wire: Next) => Next, known: Pick<Call, "consumer" | "target">): Promise<FilterCosts> {
  const added = async (wire: Next, calls: number) => (await timed(way(wire), calls, known)) - (await timed(wire, calls, known));
  return { callUs: await added(answering(unary), 20_000), batchUs: (await added(answering(stream), 1000)) / BATCHES };
}

const stranger = { consumer: undefined, target: undefined };
const costs = await costsOf((wire) => compose(inOrder(filtersAround(wire)), send), stranger);
const each: (FilterCosts & { filter: string })[] = [];
for (const filter of inOrder(filtersAround(answering(unary)))) {
  each.push({ filter: filter.name, ...(await costsOf((wire) => compose([filter], wire), { consumer, target })) });
}
process.send?.({ ...costs, each } satisfies PipelineCosts);
process.disconnect?.();
