/**
 * The way of a call. Read this page first: everything else is a detail of one of its lines.
 *
 * A call comes in by a door, meets these filters from top to bottom, is sent, and its words come back through the same filters from
 * bottom to top as one stream of events in batches.
 */
import type { Batch } from "../proto/chat.ts";
import type { Call, Filter, Next } from "./call.ts";

/** The filters of one policy, by name. Each is made by its own file's compile function; see `policy/compile.ts`. */
export interface Filters {
  readonly identify: Filter;
  readonly record: Filter;
  readonly shed: Filter;
  readonly route: Filter;
  readonly failover: Filter;
  readonly recall: Filter;
}

/** The order in which a call meets the filters, each with its reason. */
export function inOrder(filters: Filters): readonly Filter[] {
  return [
    filters.identify, // Everything after this depends on who calls; a stranger costs nothing but this.
    filters.record, // Outside all that can fail, so that every call of a known caller leaves one line, however it ends.
    filters.shed, // Before any work is done: a refusal must be the cheapest answer there is.
    filters.route, // What the model's name means decides what the later filters apply to.
    filters.failover, // It may ask more than one target, and what stands above sees one answer.
    filters.recall, // Last before the wire: which sealed thinking may be given back depends on the one target that is asked now.
  ];
}

/** Joins filters and the wire to one function. A fault that a filter throws at once is thrown from the answer, like any other. */
export function compose(filters: readonly Filter[], wire: Next): Next {
  const way = filters.reduceRight<Next>((next, filter) => (call) => filter(call, next), wire);
  return function answer(call) {
    try {
      return way(call);
    } catch (fault) {
      return failing(fault);
    }
  };
}

/** The wire's end of the way: the target that `route` chose knows how to send. */
export const send: Next = function send(call: Call): AsyncIterable<Batch> {
  if (call.target === undefined) throw new Error("send comes after route");
  return call.target.send(call);
};

function failing(fault: unknown): AsyncIterable<Batch> {
  return { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(fault) }) };
}
