/** Requests for vectors that a provider takes only in pieces: how many at once, in which order, and what becomes of a failure. */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { embeddingEvent, endEvent, startEvent, usageEvent, warningEvent } from "../../proto/chat.ts";
import { Fault, FaultReason } from "../../proto/fault.ts";
import { UsageSchema } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { type EmbeddingRequest, EmbeddingRequestSchema } from "../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
import { batchesOf, faultOf, makeCall } from "../../test/kit/call.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import type { UpstreamHandler } from "../call.ts";
import type { ClientHalf, EmbeddingAnswerInput } from "../dialects/dialect.ts";
import { joinPieces, type ProviderWire, send } from "./send.ts";

/** A vector of a text is its length. */
function embeddingsOf(inputsMax: number): NonNullable<ClientHalf["embeddings"]> {
  return {
    inputsMax: () => inputsMax,
    writeRequest: ({ request }) => ({ path: "/embed", headers: [], body: JSON.stringify(textsOf(request)), warnings: [] }),
    readAnswer: (input: EmbeddingAnswerInput) => ({
      failure: undefined,
      read: () => [],
      end: () => [
        [
          startEvent("e", "m", 0, input.route, input.provider),
          ...textsOf(input.request).map((text, index) => embeddingEvent(index, [text.length])),
          usageEvent(create(UsageSchema, { inputTokens: BigInt(input.request.inputs.length), nativeJson: "{}" })),
          endEvent(),
        ],
      ],
    }),
  };
}

function textsOf({ inputs }: EmbeddingRequest): string[] {
  return inputs.map(({ content }) => (content.case === "text" ? content.value : ""));
}

function ask(count: number): EmbeddingRequest {
  const inputs = Array.from({ length: count }, (_, index) => ({ content: { case: "text" as const, value: "x".repeat(index + 1) } }));
  return create(EmbeddingRequestSchema, { model: "small", inputs });
}

/** A provider that a test plays by hand, and what it was asked. */
function played(inputsMax: number, changes: Partial<ProviderWire> = {}) {
  const clock = new ManualClock();
  const asked: { body: string; handler: UpstreamHandler; aborted: boolean }[] = [];
  const client: ClientHalf = {
    dialect: "plain",
    writeRequest: () => {
      throw new Error("this is no conversation");
    },
    readAnswer: () => {
      throw new Error("this is no conversation");
    },
    readFault: ({ status }) => new Fault(FaultReason.PROVIDER_RATE_LIMITED, `refused with ${status}`),
    embeddings: embeddingsOf(inputsMax),
  };
  const wire: ProviderWire = {
    name: "somewhere",
    client,
    textClient: client,
    origin: "https://provider.test",
    basePath: "",
    headers: [],
    authorize: () => [],
    connectTimeoutMs: 3000,
    firstContentTimeoutMs: 60_000,
    betweenContentTimeoutMs: 30_000,
    callTimeoutMs: 600_000,
    connections: 4,
    embeddingInputsMax: Number.POSITIVE_INFINITY,
    answerBytesMax: 1 << 20,
    ...changes,
  };
  const parts = {
    clock,
    random: { next: () => 0, id: () => "id" },
    upstream(request: { body: string | Uint8Array }, handler: UpstreamHandler) {
      const one = { body: String(request.body), handler, aborted: false };
      asked.push(one);
      handler.begun();
      return {
        pause() {},
        resume() {},
        abort() {
          one.aborted = true;
        },
      };
    },
  };
  return { clock, asked, wire, way: send(wire, parts, undefined) };
}

/** Lets everything that waits for nothing but its turn have it. */
const turns = () => new Promise<void>((resolve) => setImmediate(resolve));

const headers = { get: () => undefined };

function answer({ handler }: { handler: UpstreamHandler }): void {
  handler.head(200, headers);
  handler.end();
}

function vectors(batches: Awaited<ReturnType<typeof batchesOf>>): [number, number[]][] {
  return batches.flat().flatMap(({ event }) => (event.case === "embedding" ? [[event.value.index, event.value.values]] : []));
}

describe("a request for vectors", () => {
  it("is one request where the provider takes all at once", async () => {
    const { asked, way } = played(10);
    const batches = batchesOf(way(makeCall({ request: ask(3) })));
    await turns();
    expect(asked.map(({ body }) => body)).toEqual(['["x","xx","xxx"]']);
    for (const one of asked) answer(one);
    expect(vectors(await batches)).toEqual([
      [0, [1]],
      [1, [2]],
      [2, [3]],
    ]);
  });

  it("is several where it takes fewer, four of them at once, and one answer in the order of the inputs", async () => {
    const { asked, way } = played(2);
    const call = makeCall({ request: ask(13) });
    const batches = batchesOf(way(call));
    await turns();
    expect(asked).toHaveLength(4);
    // Whichever is answered first, the next is asked then and no sooner.
    for (const index of [3, 1]) answer(asked[index] as (typeof asked)[number]);
    await turns();
    expect(asked).toHaveLength(6);
    for (const index of [5, 0, 2, 4]) answer(asked[index] as (typeof asked)[number]);
    await turns();
    expect(asked).toHaveLength(7);
    answer(asked[6] as (typeof asked)[number]);
    const all = await batches;
    expect(all).toHaveLength(1);
    expect(vectors(all)).toEqual(Array.from({ length: 13 }, (_, index) => [index, [index + 1]]));
    expect(all[0]?.map(({ event }) => event.case)).toEqual(["start", ...new Array(13).fill("embedding"), "usage", "end"]);
    expect(all[0]?.at(-2)?.event.value).toMatchObject({ inputTokens: 13n, nativeJson: "[{},{},{},{},{},{},{}]" });
  });

  it("is in pieces as small as policy says", async () => {
    const { asked, way } = played(100, { embeddingInputsMax: 2 });
    const batches = batchesOf(way(makeCall({ request: ask(3) })));
    await turns();
    expect(asked.map(({ body }) => body)).toEqual(['["x","xx"]', '["xxx"]']);
    for (const one of asked) answer(one);
    await batches;
  });

  it("fails whole where one piece fails, and stops the others", async () => {
    const { asked, way } = played(1);
    const fault = faultOf(way(makeCall({ request: ask(9) })));
    await turns();
    const [first, second, ...others] = asked;
    if (first === undefined || second === undefined) throw new Error("four are asked");
    answer(first);
    await turns();
    second.handler.head(429, headers);
    second.handler.end();
    expect(await fault).toMatchObject({ reason: FaultReason.PROVIDER_RATE_LIMITED });
    await turns();
    expect(others.every(({ aborted }) => aborted)).toBe(true);
    // Nothing more is asked once one has failed.
    expect(asked).toHaveLength(5);
  });

  it("stops when its caller leaves", async () => {
    const { asked, way } = played(1);
    const leaving = new AbortController();
    const fault = faultOf(way(makeCall({ request: ask(6), signal: leaving.signal })));
    await turns();
    leaving.abort(new Fault(FaultReason.CANCELLED, "left"));
    expect(await fault).toMatchObject({ reason: FaultReason.CANCELLED });
    await turns();
    expect(asked).toHaveLength(4);
    expect(asked.every(({ aborted }) => aborted)).toBe(true);
  });

  it("has one time for all its pieces", async () => {
    const { asked, way, clock } = played(1, { callTimeoutMs: 1_000 });
    const fault = faultOf(way(makeCall({ request: ask(8) })));
    await turns();
    clock.advance(900);
    for (const one of asked.slice(0, 4)) answer(one);
    await turns();
    expect(asked).toHaveLength(8);
    clock.advance(150);
    expect(await fault).toMatchObject({ reason: FaultReason.PROVIDER_TIMEOUT });
  });

  it("is explained with the number of requests, and nothing is sent", async () => {
    const { asked, way } = played(2);
    const [batch] = await batchesOf(way(makeCall({ request: ask(5), validateOnly: true })));
    const decisions = batch?.flatMap(({ event }) => (event.case === "decision" ? [event.value.outcome] : []));
    expect(decisions?.at(-1)).toContain("in 3 requests, 4 at once");
    expect(asked).toEqual([]);
  });

  it("is refused where the provider makes none", () => {
    const { wire } = played(1);
    const { embeddings: _, ...client } = wire.client;
    const parts = { clock: new ManualClock(), random: { next: () => 0, id: () => "id" }, upstream: () => expect.unreachable() };
    expect(() => send({ ...wire, client }, parts, undefined)(makeCall({ request: ask(1) }))).toThrow("makes no vectors");
  });
});

describe("joinPieces", () => {
  it("keeps the order of the inputs, each warning once, and what was consumed", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 4 }), fc.option(fc.nat(99), { nil: undefined })), { minLength: 1 }),
        (pieces) => {
          let next = 0;
          const answers = pieces.map(([count, tokens], index) => [
            startEvent(`id-${index}`, "m", 0, "r", "p"),
            warningEvent("PARAMETER_DROPPED", "user", "left out"),
            ...Array.from({ length: count }, (_, at) => embeddingEvent(at, [next++])),
            ...(tokens === undefined ? [] : [usageEvent(create(UsageSchema, { inputTokens: BigInt(tokens) }))]),
            endEvent(),
          ]);
          const joined = joinPieces(answers);
          expect(vectors([joined])).toEqual(Array.from({ length: next }, (_, index) => [index, [index]]));
          expect(joined.filter(({ event }) => event.case === "warning")).toHaveLength(1);
          expect(joined[0]?.event.value).toMatchObject({ id: "id-0" });
          const usage = joined.find(({ event }) => event.case === "usage")?.event.value;
          const told = pieces.map(([, tokens]) => tokens);
          // A sum of some would pass for one of all.
          if (told.includes(undefined)) expect(usage).toBeUndefined();
          else expect(usage).toMatchObject({ inputTokens: BigInt(told.reduce<number>((sum, tokens) => sum + (tokens ?? 0), 0)) });
        },
      ),
    );
  });
});
