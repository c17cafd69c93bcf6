/** The door for callers that speak Anthropic's format. It must be asked before the door that answers every other list of models. */
import { Fault, FaultReason } from "../../proto/fault.ts";
import type { House, ListedModel } from "../call.ts";
import type { ServerHalf } from "../dialects/dialect.ts";
import type { Door } from "./exchange.ts";
import { findModel, nothingHere, openCall, openLookup, openOtherMethod, type PlainFormat, refuse } from "./plain.ts";

const messages = "/v1/messages";
const belowMessages = "/v1/messages/";
const countTokens = "/v1/messages/count_tokens";
const models = "/v1/models";
const oneModel = "/v1/models/";

/** The server halves of the dialect that this door speaks, by what is asked. */
export interface AnthropicHalves {
  readonly chat: ServerHalf;
  readonly count: ServerHalf;
}

/** Opens the door. */
export function anthropicDoor(house: House, halves: AnthropicHalves, requestBytesMax: number): Door {
  const format: PlainFormat = { name: "anthropic", half: halves.chat, requestBytesMax };
  const counted: PlainFormat = { ...format, half: halves.count };
  return {
    accepts(exchange) {
      const { path } = exchange;
      if (path === messages || path.startsWith(belowMessages)) return true;
      // Both formats list models at the same address; only this one's callers name the version that they speak.
      return (path === models || path.startsWith(oneModel)) && exchange.header("anthropic-version") !== undefined;
    },

    open(exchange) {
      const { method, path } = exchange;
      if (path === messages || path === countTokens) {
        if (method === "POST") openCall(house, exchange, path === messages ? format : counted);
        else openOtherMethod(house, exchange, format, "POST");
      } else if (path.startsWith(belowMessages)) refuse(house, exchange, format, house.random.id(), nothingHere(exchange));
      else if (method !== "GET" && method !== "HEAD") openOtherMethod(house, exchange, format, "GET, HEAD");
      else if (path === models) {
        openLookup(house, exchange, format, (credential) => page(house.policy().models(credential), new URLSearchParams(exchange.query)));
      } else {
        openLookup(house, exchange, format, (credential) => listed(findModel(house, credential, path.slice(oneModel.length))));
      }
    },
  };
}

/** One page of the list, as its cursors ask (https://docs.anthropic.com/en/api/models-list). */
function page(all: readonly ListedModel[], query: URLSearchParams) {
  const limit = limitOf(query.get("limit"));
  const after = query.get("after_id");
  const before = query.get("before_id");
  const from = after === null ? 0 : all.findIndex(({ name }) => name === after) + 1;
  const until =
    before === null
      ? all.length
      : Math.max(
          0,
          all.findIndex(({ name }) => name === before),
        );
  const backwards = before !== null && after === null;
  const start = backwards ? Math.max(from, until - limit) : from;
  const end = Math.min(until, start + limit);
  const data = all.slice(start, end).map(listed);
  return {
    data,
    has_more: backwards ? start > 0 : end < until,
    first_id: data[0]?.id ?? null,
    last_id: data[data.length - 1]?.id ?? null,
  };
}

/** Twenty by default and a thousand at most, as that API has it. */
function limitOf(text: string | null): number {
  if (text === null) return 20;
  const limit = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (limit >= 1 && limit <= 1000) return limit;
  throw new Fault(FaultReason.REQUEST_INVALID, "limit must be a whole number from 1 to 1000.", { field: "limit" });
}

/** A model as this format lists it. Nobody knows when a route was made, and clients want a date. */
function listed({ name }: ListedModel) {
  return { type: "model", id: name, display_name: name, created_at: "1970-01-01T00:00:00Z" };
}
