import { describe, expect, it } from "vitest";
import { type Batch, endEvent, heartbeatEvent, nativeBatch, startEvent, textEvent } from "../../proto/chat.ts";
import { Fault, FaultReason } from "../../proto/fault.ts";
import { batchesOf, faultOf, makeCall } from "../../test/kit/call.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import type { Call, UpstreamHandler, UpstreamRequest } from "../call.ts";
import type { ClientHalf, RequestInput, WrittenRequest } from "../dialects/dialect.ts";
import { type LivingCredential, type ProviderWire, send } from "./send.ts";

/** A dialect in which a read is one piece of text, `ping` a heartbeat and `broken` an unreadable answer. */
function plainDialect(written: Partial<WrittenRequest> = {}): ClientHalf & { readonly inputs: RequestInput[] } {
  const inputs: RequestInput[] = [];
  return {
    dialect: "plain",
    inputs,
    writeRequest(input) {
      inputs.push(input);
      return { path: "/chat", headers: ["content-type", "text/plain"], body: "hello", warnings: [], ...written };
    },
    readAnswer({ route, provider }) {
      let begun = false;
      let failure: Fault | undefined;
      return {
        get failure() {
          return failure;
        },
        read(bytes) {
          const text = Buffer.from(bytes).toString();
          if (text === "broken") throw new TypeError("a mistake of ours");
          if (text.endsWith("unreadable")) {
            failure = new Fault(FaultReason.PROVIDER_ANSWER_INVALID, "cannot be read");
            return [[textEvent(0, text)]];
          }
          if (text === "ping") return [[heartbeatEvent()]];
          const batch = begun ? [textEvent(0, text)] : [startEvent("1", "m", 0, route, provider), textEvent(0, text)];
          begun = true;
          return [batch];
        },
        end() {
          if (begun) return [[endEvent()]];
          failure = new Fault(FaultReason.PROVIDER_ANSWER_INCOMPLETE, "nothing came");
          return [];
        },
      };
    },
    readFault: ({ status, body }) =>
      new Fault(FaultReason.PROVIDER_REQUEST_REFUSED, `refused with ${status}: ${body.byteLength} bytes`, { httpStatus: status }),
  };
}

/** A provider that a test plays by hand. */
function playedProvider(client: ClientHalf = plainDialect(), changes: Partial<ProviderWire> = {}) {
  const clock = new ManualClock();
  const played: { request?: UpstreamRequest; handler?: UpstreamHandler; readonly log: string[] } = { log: [] };
  const wire: ProviderWire = {
    name: "somewhere",
    client,
    textClient: client,
    origin: "https://provider.test",
    basePath: "/v1",
    headers: ["x-added", "by policy"],
    authorize: () => ["authorization", "Bearer key"],
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
    upstream(request: UpstreamRequest, handler: UpstreamHandler) {
      played.request = request;
      played.handler = handler;
      return { pause: () => played.log.push("pause"), resume: () => played.log.push("resume"), abort: () => played.log.push("abort") };
    },
  };
  const start = (call: Call = makeCall(), routeTimeoutMs?: number, connected = true) => {
    const answer = send(wire, parts, routeTimeoutMs)(call)[Symbol.asyncIterator]();
    const { handler } = played;
    if (handler === undefined) throw new Error("nothing was sent");
    if (connected) handler.begun();
    return { answer, handler, iterable: { [Symbol.asyncIterator]: () => answer } };
  };
  return { clock, played, start, wire, parts };
}

const headers = { get: () => undefined };
const bytes = (text: string) => Buffer.from(text);

function texts(batches: readonly Batch[]): string[] {
  return batches.flatMap((batch) => batch.flatMap(({ event }) => (event.case === "text" ? [event.value.text] : [])));
}

describe("send", () => {
  it("writes the dialect's request to the provider's address, with policy's headers and the credential", () => {
    const { played, start } = playedProvider();
    start();
    expect(played.request).toMatchObject({ origin: "https://provider.test", path: "/v1/chat", body: "hello" });
    expect(played.request?.headers).toEqual(["content-type", "text/plain", "x-added", "by policy", "authorization", "Bearer key"]);
  });

  it("gives batches in order, whether the door or the wire is ahead", async () => {
    const { start, clock } = playedProvider();
    const { handler, answer, iterable } = start();
    const first = answer.next();
    handler.head(200, headers);
    handler.data(bytes("one "));
    handler.data(bytes("two "));
    expect(texts([(await first).value])).toEqual(["one "]);
    handler.end();
    expect(texts(await batchesOf(iterable))).toEqual(["two "]);
    expect(clock.waiting).toBe(0);
  });

  it("fails where the answer's end is the failure, whether the door waits or not", async () => {
    for (const waits of [true, false]) {
      const { start, clock } = playedProvider();
      const { handler, answer } = start();
      handler.head(200, headers);
      const early = waits ? answer.next() : undefined;
      handler.end();
      await expect(early ?? answer.next()).rejects.toThrow("nothing came");
      expect(clock.waiting).toBe(0);
    }
  });

  it("stops reading the provider while the door does not ask, and goes on when the door has taken what came", async () => {
    const { start, played } = playedProvider();
    const { handler, answer } = start();
    handler.head(200, headers);
    const asked = answer.next();
    expect(handler.wanting).toBe(true);
    handler.data(bytes("some"));
    expect(played.log).toEqual([]);
    await asked;
    expect(handler.wanting).toBe(false);
    handler.data(bytes("and"));
    handler.data(bytes("more"));
    expect(played.log).toEqual(["pause"]);
    await answer.next();
    expect(played.log).toEqual(["pause"]);
    expect(texts([(await answer.next()).value])).toEqual(["more"]);
    expect(played.log).toEqual(["pause", "resume"]);
  });

  it("reads what waits only once it is asked for, and before what ends or breaks the answer", async () => {
    for (const end of ["end", "error"] as const) {
      let read = 0;
      const dialect = plainDialect();
      const { start } = playedProvider({
        ...dialect,
        readAnswer(input) {
          const reader = dialect.readAnswer(input);
          return {
            get failure() {
              return reader.failure;
            },
            read(piece) {
              read += 1;
              return reader.read(piece);
            },
            end: () => reader.end(),
          };
        },
      });
      const { handler, answer } = start();
      const first = answer.next();
      handler.head(200, headers);
      handler.data(bytes("a"));
      await first;
      handler.data(bytes("b"));
      handler.data(bytes("c"));
      expect(read).toBe(1);
      if (end === "end") handler.end();
      else handler.error(new Error("reset"), true);
      expect([texts([(await answer.next()).value]), texts([(await answer.next()).value])]).toEqual([["b"], ["c"]]);
      if (end === "end") expect((await answer.next()).value.at(-1)?.event.case).toBe("end");
      else await expect(answer.next()).rejects.toMatchObject({ reason: FaultReason.PROVIDER_ANSWER_INCOMPLETE });
    }
  });

  it("aborts the provider at once when the caller leaves, before, between and while waiting", async () => {
    for (const moment of ["before the head", "between batches", "while waiting"] as const) {
      const controller = new AbortController();
      const { start, played, clock } = playedProvider();
      const { handler, answer } = start(makeCall({ signal: controller.signal }));
      const left = new Fault(FaultReason.CANCELLED, "left");
      if (moment !== "before the head") {
        handler.head(200, headers);
        handler.data(bytes("a"));
        await answer.next();
      }
      const waiting = moment === "while waiting" ? answer.next() : undefined;
      controller.abort(left);
      expect(played.log.at(-1), moment).toBe("abort");
      await expect(waiting ?? answer.next(), moment).rejects.toBe(left);
      expect(clock.waiting, moment).toBe(0);
    }
  });

  it("sends nothing for a caller who left before", async () => {
    const { wire, parts, played } = playedProvider();
    const controller = new AbortController();
    const left = new Fault(FaultReason.CANCELLED, "left");
    controller.abort(left);
    expect(await faultOf(send(wire, parts, undefined)(makeCall({ signal: controller.signal })))).toBe(left);
    expect(played.request).toBeUndefined();
  });

  it("aborts the provider when the door stops pulling", async () => {
    const { start, played, clock } = playedProvider();
    const { handler, answer } = start();
    handler.head(200, headers);
    handler.data(bytes("a"));
    await answer.return?.();
    expect(played.log.at(-1)).toBe("abort");
    expect(clock.waiting).toBe(0);
    expect(await answer.next()).toEqual({ done: true, value: undefined });
  });

  it("gives what came before a failure, and then the failure", async () => {
    const { start } = playedProvider();
    const { handler, answer } = start();
    handler.head(200, headers);
    handler.data(bytes("half an ans"));
    handler.error(new Error("ECONNRESET"), true);
    expect(texts([(await answer.next()).value])).toEqual(["half an ans"]);
    await expect(answer.next()).rejects.toMatchObject({ reason: FaultReason.PROVIDER_ANSWER_INCOMPLETE });
    expect((await answer.next()).done).toBe(true);
  });

  it("tells a provider that cannot be reached from one that hung up", async () => {
    for (const [sent, message] of [
      [false, "could not be reached"],
      [true, "closed the connection before it answered"],
    ] as const) {
      const { start } = playedProvider();
      const { handler, iterable } = start();
      handler.error(new Error("secret detail"), sent);
      const fault = await faultOf(iterable);
      expect(fault).toMatchObject({ reason: FaultReason.PROVIDER_UNAVAILABLE, message: expect.stringContaining(message) });
      expect(String(fault)).not.toContain("secret detail");
    }
  });

  it("reads a refusal as a fault of the dialect, and at most 64 KiB of it", async () => {
    const { start, played } = playedProvider();
    const { handler, iterable } = start();
    handler.head(400, headers);
    handler.data(Buffer.alloc(40_000));
    handler.data(Buffer.alloc(40_000));
    expect(played.log).toEqual(["abort"]);
    expect(await faultOf(iterable)).toMatchObject({ message: "refused with 400: 65536 bytes", httpStatus: 400 });
  });

  it("turns a mistake of ours into a fault and closes the socket", async () => {
    const { start, played } = playedProvider();
    const { handler, iterable } = start();
    const fault = faultOf(iterable);
    handler.head(200, headers);
    handler.data(bytes("broken"));
    expect(played.log).toEqual(["abort"]);
    expect(await fault).toMatchObject({ reason: FaultReason.INTERNAL });
  });

  it("gives the words that came in the same read as a failure", async () => {
    const { start, played } = playedProvider();
    const { handler, answer } = start();
    const first = answer.next();
    handler.head(200, headers);
    handler.data(bytes("words, then unreadable"));
    expect(played.log).toEqual(["abort"]);
    expect(texts([(await first).value])).toEqual(["words, then unreadable"]);
    await expect(answer.next()).rejects.toMatchObject({ reason: FaultReason.PROVIDER_ANSWER_INVALID });
  });

  it("notes when the first content came, of a unary answer too", async () => {
    const unary = plainDialect();
    const { start, clock } = playedProvider({
      ...unary,
      readAnswer: () => ({ failure: undefined, read: () => [], end: () => [[textEvent(0, "all"), endEvent()]] }),
    });
    const call = makeCall({ streaming: false });
    const { handler, iterable } = start(call);
    handler.head(200, headers);
    handler.data(bytes("body"));
    clock.advance(50);
    handler.end();
    await batchesOf(iterable);
    expect(call.notes.firstContentAtMs).toBe(clock.monotonicMs());
  });

  it("waits for content, which a ping is not", async () => {
    const { start, clock } = playedProvider();
    const { handler, answer } = start();
    const first = answer.next();
    handler.head(200, headers);
    clock.advance(59_000);
    handler.data(bytes("ping"));
    await first;
    const second = answer.next();
    clock.advance(1_000);
    await expect(second).rejects.toMatchObject({ reason: FaultReason.PROVIDER_TIMEOUT, message: expect.stringContaining("no content") });
  });

  it("tells a provider that was never asked, for want of a connection, from a silent one", async () => {
    const waiting = playedProvider();
    const { iterable } = waiting.start(makeCall(), undefined, false);
    waiting.clock.advance(60_000);
    expect(await faultOf(iterable)).toMatchObject({ reason: FaultReason.PROVIDER_UNAVAILABLE, facts: { connections_max: "4" } });

    const late = playedProvider();
    const { handler, answer } = late.start(makeCall(), undefined, false);
    late.clock.advance(59_000);
    handler.begun();
    late.clock.advance(59_000);
    handler.head(200, headers);
    const next = answer.next();
    handler.data(bytes("late"));
    expect(texts([(await next).value])).toEqual(["late"]);
  });

  it("turns a mistake in reading a refusal into a fault", async () => {
    const client = plainDialect();
    const { start } = playedProvider({
      ...client,
      readFault: () => {
        throw new TypeError("a mistake of ours");
      },
    });
    const { handler, iterable } = start();
    handler.head(500, headers);
    handler.error(new Error("reset"), true);
    expect(await faultOf(iterable)).toMatchObject({ reason: FaultReason.INTERNAL });
  });

  it("notices silence in the middle of an answer, but not while the caller is the slow one", async () => {
    const { start, clock, played } = playedProvider();
    const { handler, answer } = start();
    handler.head(200, headers);
    handler.data(Buffer.alloc(70_000, "a"));
    clock.advance(120_000);
    expect(played.log).toEqual(["pause"]);
    await answer.next();
    expect(played.log).toEqual(["pause", "resume"]);
    clock.advance(29_999);
    handler.data(bytes("b"));
    await answer.next();
    clock.advance(30_001);
    await expect(answer.next()).rejects.toMatchObject({ message: expect.stringContaining("silent for 30000 ms") });
  });

  it("ends a call that goes on for ever, by the route's limit if that is lower", async () => {
    const { start, clock } = playedProvider();
    const { handler, iterable } = start(makeCall(), 100_000);
    handler.head(200, headers);
    for (let second = 0; second < 100; second += 10) {
      handler.data(bytes("on and on "));
      clock.advance(10_000);
    }
    expect(await faultOf(iterable)).toMatchObject({ reason: FaultReason.PROVIDER_TIMEOUT, message: expect.stringContaining("in time") });
  });

  it("tells the caller what was left out of the request, after the start", async () => {
    const warning = { $typeName: "outrigger.chat.v1.Warning", code: "PARAMETER_DROPPED", field: "seed", message: "no seed" } as const;
    const lowered = { ...warning, code: "PARAMETER_CHANGED", field: "temperature" };
    const { start } = playedProvider(plainDialect({ warnings: [warning, lowered, warning] }));
    const call = makeCall();
    const { handler, iterable } = start(call);
    expect(call.notes.droppedParams).toEqual(["seed"]);
    handler.head(200, headers);
    handler.data(bytes("a"));
    handler.end();
    const cases = (await batchesOf(iterable)).flatMap((batch) => batch.map(({ event }) => event.case));
    // The list names each once; the warnings say why of each.
    expect(cases).toEqual(["start", "warning", "warning", "warning", "text", "end"]);
  });

  it("tells what filters changed before what the dialect did, and shows every batch to whoever watches, before the door asks", async () => {
    const warning = (field: string) =>
      ({ $typeName: "outrigger.chat.v1.Warning", code: "PARAMETER_DROPPED", field, message: "left out" }) as const;
    const { start } = playedProvider(plainDialect({ warnings: [warning("seed")] }));
    const watched: (string | undefined)[] = [];
    const watch = (batch: Batch): void => void watched.push(...batch.map(({ event }) => event.case));
    const call = makeCall({ warnings: [warning("messages[1].reasoning")], watch });
    const { handler, answer, iterable } = start(call);
    expect(call.notes.droppedParams).toEqual(["messages[1].reasoning", "seed"]);
    const first = answer.next();
    handler.head(200, headers);
    handler.data(bytes("a"));
    expect(watched).toEqual(["start", "text"]);
    handler.end();
    expect(watched).toEqual(["start", "text", "end"]);
    const fields = (await first).value.flatMap(({ event }: Batch[number]) => (event.case === "warning" ? [event.value.field] : []));
    expect(fields).toEqual(["messages[1].reasoning", "seed"]);
    await batchesOf(iterable);
  });

  // A whole answer comes as one batch, and the warnings stood behind its end: doors took it for one that is not complete.
  it("lets an answer that comes in one batch end with its end, whatever was left out, and keep its bytes", async () => {
    const warning = { $typeName: "outrigger.chat.v1.Warning", code: "PARAMETER_DROPPED", field: "seed", message: "no seed" } as const;
    const native = { dialect: "plain", form: "body", bytes: bytes("whole") } as const;
    const client = plainDialect({ warnings: [warning] });
    const whole = () => [nativeBatch([startEvent("1", "m", 0, "", "somewhere"), textEvent(0, "whole"), endEvent()], native)];
    const { start } = playedProvider({ ...client, readAnswer: () => ({ failure: undefined, read: () => [], end: whole }) });
    const { handler, iterable } = start(makeCall({ streaming: false }));
    handler.head(200, headers);
    handler.data(bytes("whole"));
    handler.end();
    const [batch, ...more] = await batchesOf(iterable);
    expect(batch?.map(({ event }) => event.case)).toEqual(["start", "warning", "text", "end"]);
    expect(batch?.native).toBe(native);
    expect(more).toEqual([]);
  });

  // A conversation of 700 turns with thinking, asked of another API, made a header that Node's fetch refuses.
  it("names as much of what was left out as a header can hold, and tells all in warnings", async () => {
    const warnings = Array.from({ length: 1_000 }, (_, index) => ({
      $typeName: "outrigger.chat.v1.Warning" as const,
      code: "PARAMETER_DROPPED",
      field: `messages[${index}].reasoning`,
      message: "left out",
    }));
    const { start } = playedProvider(plainDialect({ warnings }));
    const call = makeCall();
    const { handler, iterable } = start(call);
    handler.head(200, headers);
    handler.data(bytes("a"));
    handler.end();
    const { droppedParams } = call.notes;
    expect(droppedParams.slice(0, 2)).toEqual(["messages[0].reasoning", "messages[1].reasoning"]);
    expect(droppedParams.at(-1)).toBe(`${1_001 - droppedParams.length} more`);
    expect(droppedParams.join(", ").length).toBeLessThan(1_100);
    expect((await batchesOf(iterable)).flat().filter(({ event }) => event.case === "warning")).toHaveLength(1_000);
  });

  it("sends nothing when only a decision is asked for", async () => {
    const { wire, parts, played } = playedProvider();
    const batches = await batchesOf(send(wire, parts, undefined)(makeCall({ validateOnly: true })));
    expect(played.request).toBeUndefined();
    const decision = batches.flat().find(({ event }) => event.case === "decision");
    expect(decision?.event.value).toMatchObject({ filter: "send", facts: { endpoint: "https://provider.test/v1/chat" } });
  });
});

describe("a credential that runs out", () => {
  /** A provider whose credential comes when the test says so. */
  function living() {
    const came = Promise.withResolvers<void>();
    let refused = 0;
    let token: string | undefined;
    const credential: LivingCredential = {
      ready: () => (token === undefined ? came.promise : undefined),
      refused: () => {
        refused += 1;
      },
    };
    const provider = playedProvider(plainDialect(), {
      authorize() {
        if (token === undefined) throw new Fault(FaultReason.PROVIDER_CREDENTIAL_UNAVAILABLE, "just expired");
        return ["authorization", token];
      },
      living: credential,
    });
    return {
      ...provider,
      come(value: string | undefined) {
        token = value;
        came.resolve();
        return came.promise;
      },
      fail: (fault: Fault) => came.reject(fault),
      refusals: () => refused,
      ask: (call: Call = makeCall()) => send(provider.wire, provider.parts, undefined)(call)[Symbol.asyncIterator](),
    };
  }

  it("is sent in the same turn while it holds", () => {
    const { come, ask, played } = living();
    come("a");
    ask();
    expect(played.request?.headers.slice(-2)).toEqual(["authorization", "a"]);
  });

  it("is waited for where there is none yet", async () => {
    const { come, ask, played } = living();
    const next = ask().next();
    expect(played.request).toBeUndefined();
    await come("a");
    expect(played.request?.headers.slice(-2)).toEqual(["authorization", "a"]);
    played.handler?.head(200, headers);
    played.handler?.data(bytes("x"));
    expect((await next).done).toBe(false);
  });

  it("that cannot be had fails the call with its own fault, and nothing is sent", async () => {
    const { fail, ask, played, clock } = living();
    const next = ask().next();
    const fault = new Fault(FaultReason.PROVIDER_CREDENTIAL_UNAVAILABLE, "not now");
    fail(fault);
    await expect(next).rejects.toBe(fault);
    expect([played.request, clock.waiting]).toEqual([undefined, 0]);
  });

  it("that does not come in time, or ends in the blink between, fails the call", async () => {
    const { ask, clock } = living();
    const late = ask().next();
    clock.advance(60_000);
    await expect(late).rejects.toMatchObject({
      reason: FaultReason.PROVIDER_CREDENTIAL_UNAVAILABLE,
      message: expect.stringContaining("60000 ms"),
    });
    const other = living();
    const next = other.ask().next();
    await other.come(undefined);
    await expect(next).rejects.toMatchObject({ message: "just expired" });
    expect([other.played.request, other.clock.waiting]).toEqual([undefined, 0]);
  });

  it("is not used for a caller who left meanwhile", async () => {
    const { come, ask, played } = living();
    const answer = ask();
    await answer.return?.();
    await come("a");
    expect(played.request).toBeUndefined();
  });

  it("hears that the provider did not accept it, and of no other refusal", async () => {
    const { come, ask, played, refusals, wire } = living();
    const reasons = [FaultReason.PROVIDER_PERMISSION_DENIED, FaultReason.PROVIDER_CREDENTIAL_REFUSED] as const;
    come("a");
    for (const reason of reasons) {
      wire.client.readFault = () => new Fault(reason, "no");
      const next = ask().next();
      played.handler?.head(401, headers);
      played.handler?.end();
      await expect(next).rejects.toMatchObject({ reason });
    }
    expect(refusals()).toBe(1);
  });
});
