/**
 * What calls cost: price books compiled to one function.
 *
 * Prices apply to disjoint parts of what was used: input that is new, input from the provider's cache, input written to it, output
 * that is thinking and output that is not. The reported totals include their parts (`Usage` in conversation.proto), so the parts are
 * taken out first. Everything is whole numbers; the sum is rounded once, to the nearest millionth, halves up.
 */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Usage } from "../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { PriceBook, PriceRow } from "../../proto/gen/outrigger/policy/v1/price_book_pb.ts";
import { exactness, matcher } from "../../proto/pattern.ts";
import { namespaceOf } from "../../proto/resources/kinds.ts";
import type { PriceOf } from "../filters/record.ts";

/** Models of providers of which the fitting rows are remembered. Callers choose names where a route passes them on, so there is an end. */
const rememberedMax = 1024;

/**
 * Compiles price books of any namespaces. There is no cost where there is no price, or where a total of what was used is not known:
 * absent is not zero.
 */
export function compilePrices(books: readonly PriceBook[]): PriceOf {
  const tables = new Map<string, Price[]>();
  for (const book of books) {
    const namespace = namespaceOf(book);
    const prices = tables.get(namespace) ?? [];
    tables.set(namespace, prices);
    for (const row of book.spec?.rows ?? []) prices.push(compileRow(row, book.spec?.currency ?? ""));
  }
  for (const prices of tables.values()) prices.sort(byPrecedence);
  const remembered = new Map<string, Remembered[]>();
  let rememberedCount = 0;

  /** The prices that fit a model on some day, the one that goes before the others first. */
  function fitting(provider: string, model: string, namespace: string): readonly Price[] {
    // A key of all three would be a text that is made and hashed for each call.
    const known = remembered.get(model);
    if (known !== undefined) {
      for (const one of known) if (one.provider === provider && one.namespace === namespace) return one.prices;
    }
    const prices = (tables.get(namespace) ?? []).filter(
      (price) => (price.provider === "" || price.provider === provider) && price.fits(model),
    );
    if (rememberedCount === rememberedMax) {
      remembered.clear();
      rememberedCount = 0;
    }
    rememberedCount += 1;
    const of = remembered.get(model);
    if (of === undefined) remembered.set(model, [{ provider, namespace, prices }]);
    else of.push({ provider, namespace, prices });
    return prices;
  }

  return function priceOf(provider, model, usage, nowMs, namespace) {
    const price = fitting(provider, model, namespace).find(({ fromMs }) => fromMs <= nowMs);
    const parts = partsOf(usage);
    if (price === undefined || parts === undefined) return undefined;
    return { $typeName: "outrigger.chat.v1.Money", currency: price.currency, micros: costOf(parts, price) };
  };
}

/** The prices that fit a model of one provider. */
interface Remembered {
  readonly provider: string;
  readonly namespace: string;
  readonly prices: readonly Price[];
}

/** Tokens in parts that have nothing in common. Together they are what the provider reported, if its report adds up. */
export interface UsedParts {
  readonly input: bigint;
  readonly cachedInput: bigint;
  readonly cacheWrite: bigint;
  readonly output: bigint;
  readonly reasoning: bigint;
}

/**
 * The parts of what was used. Reports do not always add up (more cached than read, more thinking than output, numbers below zero):
 * what is left over is never less than nothing. Undefined if a total is not known.
 */
export function partsOf(usage: Usage): UsedParts | undefined {
  if (usage.inputTokens === undefined || usage.outputTokens === undefined) return undefined;
  const cachedInput = atLeastZero(usage.cachedInputTokens ?? 0n);
  const cacheWrite = atLeastZero(usage.cacheWriteTokens ?? 0n);
  const reasoning = atLeastZero(usage.reasoningTokens ?? 0n);
  return {
    input: atLeastZero(usage.inputTokens - cachedInput - cacheWrite),
    cachedInput,
    cacheWrite,
    output: atLeastZero(usage.outputTokens - reasoning),
    reasoning,
  };
}

/** A price's amounts, in millionths of the currency's unit for a million tokens. */
interface Amounts {
  readonly input: bigint;
  readonly cachedInput: bigint;
  readonly cacheWrite: bigint;
  readonly output: bigint;
  readonly reasoning: bigint;
}

interface Price extends Amounts {
  readonly currency: string;
  /** The provider that it is for, or empty for all. */
  readonly provider: string;
  readonly fits: (model: string) => boolean;
  readonly exactness: number;
  /** When it begins to hold; `-Infinity` for always. */
  readonly fromMs: number;
}

function compileRow(row: PriceRow, currency: string): Price {
  const { input, output } = row;
  if (input === undefined || output === undefined) throw new Error("reading refuses a row without its prices");
  return {
    currency,
    provider: row.provider,
    fits: matcher(row.model),
    exactness: exactness(row.model),
    fromMs: row.from === undefined ? Number.NEGATIVE_INFINITY : timestampMs(row.from),
    input,
    output,
    cachedInput: row.cachedInput ?? input,
    cacheWrite: row.cacheWrite ?? input,
    reasoning: row.reasoning ?? output,
  };
}

/** The most exact pattern first, then rows that name a provider, then the latest. */
function byPrecedence(a: Price, b: Price): number {
  return descending(a.exactness, b.exactness) || Number(b.provider !== "") - Number(a.provider !== "") || descending(a.fromMs, b.fromMs);
}

/** Infinities have no difference, so numbers are compared and not subtracted. */
function descending(a: number, b: number): number {
  return a > b ? -1 : a < b ? 1 : 0;
}

const tokensPerPrice = 1_000_000n;

function costOf(parts: UsedParts, amounts: Amounts): bigint {
  const sum =
    parts.input * amounts.input +
    parts.cachedInput * amounts.cachedInput +
    parts.cacheWrite * amounts.cacheWrite +
    parts.output * amounts.output +
    parts.reasoning * amounts.reasoning;
  return (sum + tokensPerPrice / 2n) / tokensPerPrice;
}

function atLeastZero(tokens: bigint): bigint {
  return tokens < 0n ? 0n : tokens;
}
