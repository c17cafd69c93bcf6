import { create, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Usage, UsageSchema } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import { type PriceBook, PriceBookSchema, type PriceRowSchema } from "../../proto/gen/outrigger/policy/v1/price_book_pb.ts";
import { compilePrices, partsOf } from "./prices.ts";

type Row = MessageInitShape<typeof PriceRowSchema>;

const day = (text: string): number => Date.parse(`${text}T00:00:00Z`);
const from = (text: string): { seconds: bigint } => ({ seconds: BigInt(day(text) / 1000) });

/** A price book; a price that a row does not name is zero. */
function book(rows: Row[], namespace = "", currency = "USD"): PriceBook {
  const priced = rows.map((row) => ({ input: 0n, output: 0n, ...row }));
  return create(PriceBookSchema, { metadata: { name: "list", namespace }, spec: { currency, rows: priced } });
}

function used(counts: MessageInitShape<typeof UsageSchema>): Usage {
  return create(UsageSchema, counts);
}

const now = day("2026-06-01");

describe("golden prices", () => {
  // 3 and 15 dollars for a million tokens, cache reads 0.30, cache writes 3.75, thinking 10.
  const priceOf = compilePrices([
    book([{ model: "m", input: 3_000_000n, output: 15_000_000n, cachedInput: 300_000n, cacheWrite: 3_750_000n, reasoning: 10_000_000n }]),
  ]);
  test.each([
    ["plain", { inputTokens: 1000n, outputTokens: 200n }, 3000n + 3000n],
    [
      "cache and thinking",
      { inputTokens: 1000n, outputTokens: 200n, cachedInputTokens: 600n, cacheWriteTokens: 100n, reasoningTokens: 50n },
      900n + 180n + 375n + 2250n + 500n,
    ],
    ["nothing used", { inputTokens: 0n, outputTokens: 0n }, 0n],
    ["more cached than read", { inputTokens: 10n, outputTokens: 0n, cachedInputTokens: 1000n }, 300n],
    ["more thinking than output", { inputTokens: 0n, outputTokens: 10n, reasoningTokens: 100n }, 1000n],
    ["numbers below zero", { inputTokens: -5n, outputTokens: -5n, cachedInputTokens: -5n, reasoningTokens: -1n }, 0n],
    ["beyond what a double holds", { inputTokens: 9007199254740993n, outputTokens: 0n }, 27021597764222979n],
  ])("%s", (_, counts, micros) => {
    expect(priceOf("p", "m", used(counts), now, "default")).toEqual({ $typeName: "outrigger.chat.v1.Money", currency: "USD", micros });
  });

  test("a half of a millionth is rounded up, less is not", () => {
    const cheap = compilePrices([book([{ model: "m", input: 1n, output: 0n }])]);
    const micros = (tokens: bigint) => cheap("p", "m", used({ inputTokens: tokens, outputTokens: 0n }), now, "default")?.micros;
    expect([micros(499_999n), micros(500_000n), micros(1_499_999n), micros(1_500_000n)]).toEqual([0n, 1n, 1n, 2n]);
  });

  test.each([{ inputTokens: 5n }, { outputTokens: 5n }, { totalTokens: 10n }, {}])("what is not known has no price: %o", (counts) => {
    expect(priceOf("p", "m", used(counts), now, "default")).toBeUndefined();
  });
});

describe("which price holds", () => {
  const rows: Row[] = [
    { model: "*", input: 1n },
    { model: "gpt-*", input: 2n },
    { model: "gpt-4*", input: 3n },
    { model: "gpt-4o", input: 4n },
    { model: "gpt-4o", input: 5n, from: from("2026-03-01") },
    { model: "gpt-4o", input: 6n, from: from("2026-07-01") },
    { model: "gpt-4*", provider: "eu", input: 7n },
    { model: "new", input: 8n, from: from("2026-07-01") },
  ];
  const million = used({ inputTokens: 1_000_000n, outputTokens: 0n });
  test.each([
    ["any", "llama", now, 1n],
    ["any", "gpt-3", now, 2n],
    ["any", "gpt-4-turbo", now, 3n],
    ["eu", "gpt-4-turbo", now, 7n],
    ["any", "gpt-4o", day("2026-02-28"), 4n],
    ["any", "gpt-4o", day("2026-03-01"), 5n],
    ["any", "gpt-4o", day("2026-12-01"), 6n],
    // The name is more exact than the pattern, so that of all providers goes before that of this one.
    ["eu", "gpt-4o", now, 5n],
    // A price that does not hold yet leaves the call to the next one.
    ["any", "new", now, 1n],
    ["any", "new", day("2026-07-01"), 8n],
  ])("%s %s at %d costs %d", (provider, model, nowMs, micros) => {
    for (const order of [rows, rows.toReversed()]) {
      const priceOf = compilePrices([book(order)]);
      expect(priceOf(provider, model, million, nowMs, "default")?.micros).toBe(micros);
      // The second time it is remembered.
      expect(priceOf(provider, model, million, nowMs, "default")?.micros).toBe(micros);
    }
  });

  test("no row, no price", () => expect(compilePrices([book([{ model: "a" }])])("p", "b", million, now, "default")).toBeUndefined());

  test("namespaces keep their prices to themselves", () => {
    const priceOf = compilePrices([book([{ model: "m", input: 1n }]), book([{ model: "m", input: 2n }], "eu", "EUR")]);
    expect(priceOf("p", "m", million, now, "default")).toMatchObject({ currency: "USD", micros: 1n });
    expect(priceOf("p", "m", million, now, "eu")).toMatchObject({ currency: "EUR", micros: 2n });
    expect(priceOf("p", "m", million, now, "us")).toBeUndefined();
  });

  test("however many names callers invent, each still has its price", () => {
    const priceOf = compilePrices([book([{ model: "*-1", input: 9n }])]);
    for (let index = 0; index < 3000; index++) {
      expect(priceOf("p", `${index}-${index % 2}`, million, now, "default")?.micros).toBe(index % 2 === 1 ? 9n : undefined);
    }
  });
});

describe("whatever is reported", () => {
  const count = fc.option(fc.bigInt({ min: -10n, max: 10n ** 16n }), { nil: undefined });
  const usages = fc.record({
    inputTokens: count,
    outputTokens: count,
    cachedInputTokens: count,
    cacheWriteTokens: count,
    reasoningTokens: count,
  });
  const amount = fc.bigInt({ min: 0n, max: 10n ** 10n });
  const row = fc.record({ input: amount, output: amount, cachedInput: amount, cacheWrite: amount, reasoning: amount });

  test("the cost is never less than nothing, and more tokens never cost less", () => {
    fc.assert(
      fc.property(usages, row, fc.bigInt({ min: 0n, max: 10n ** 9n }), (counts, amounts, more) => {
        const priceOf = compilePrices([book([{ model: "*", ...amounts }])]);
        const cost = priceOf("p", "m", used(counts), now, "default")?.micros;
        const { inputTokens, outputTokens } = counts;
        if (inputTokens === undefined || outputTokens === undefined) {
          expect(cost).toBeUndefined();
          return;
        }
        expect(cost).toBeGreaterThanOrEqual(0n);
        expect(priceOf("p", "m", used({ ...counts, inputTokens: inputTokens + more }), now, "default")?.micros).toBeGreaterThanOrEqual(
          cost ?? 0n,
        );
        expect(priceOf("p", "m", used({ ...counts, outputTokens: outputTokens + more }), now, "default")?.micros).toBeGreaterThanOrEqual(
          cost ?? 0n,
        );
      }),
    );
  });

  test("the parts are what was reported, where the report adds up; with one price for all, the cost is that of the totals", () => {
    const part = fc.bigInt({ min: 0n, max: 10n ** 12n });
    fc.assert(
      fc.property(part, part, part, part, part, amount, (fresh, cached, written, thought, said, price) => {
        const usage = used({
          inputTokens: fresh + cached + written,
          outputTokens: thought + said,
          cachedInputTokens: cached,
          cacheWriteTokens: written,
          reasoningTokens: thought,
        });
        expect(partsOf(usage)).toEqual({ input: fresh, cachedInput: cached, cacheWrite: written, output: said, reasoning: thought });
        const flat = compilePrices([book([{ model: "*", input: price, output: price }])]);
        const totals = used({ inputTokens: usage.inputTokens ?? 0n, outputTokens: usage.outputTokens ?? 0n });
        expect(flat("p", "m", usage, now, "default")).toEqual(flat("p", "m", totals, now, "default"));
      }),
    );
  });

  test("a call in two pieces costs the same but for rounding", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 10n ** 9n }), fc.bigInt({ min: 0n, max: 10n ** 9n }), amount, (one, two, price) => {
        const priceOf = compilePrices([book([{ model: "*", input: price }])]);
        const micros = (tokens: bigint) =>
          priceOf("p", "m", used({ inputTokens: tokens, outputTokens: 0n }), now, "default")?.micros ?? -1n;
        const apart = micros(one) + micros(two) - micros(one + two);
        expect(apart >= -1n && apart <= 1n).toBe(true);
      }),
    );
  });
});
