/** The door for callers that speak OpenAI's format, which also answers whoever knocks where there is no door. */
import type { Fault } from "../../proto/fault.ts";
import type { House, ListedModel } from "../call.ts";
import type { ServerHalf } from "../dialects/dialect.ts";
import type { Door, Exchange } from "./exchange.ts";
import { findModel, openCall, openLookup, openOtherMethod, type PlainFormat, refuse } from "./plain.ts";

/** This door, and the words in which requests are refused that no door takes. */
export interface OpenAiDoor extends Door {
  /** Refuses a request that came to no door. */
  turnAway(exchange: Exchange, fault: Fault): void;
}

const completions = "/v1/chat/completions";
const models = "/v1/models";
const oneModel = "/v1/models/";

/** `half` is the server half of the dialect that this door speaks. */
export function openAiDoor(house: House, half: ServerHalf, requestBytesMax: number): OpenAiDoor {
  const format: PlainFormat = { name: "openai", half, requestBytesMax };
  return {
    accepts({ path }) {
      return path === completions || path === models || path.startsWith(oneModel);
    },

    open(exchange) {
      const { method, path } = exchange;
      if (path === completions) {
        if (method === "POST") openCall(house, exchange, format);
        else openOtherMethod(house, exchange, format, "POST");
      } else if (method !== "GET" && method !== "HEAD") openOtherMethod(house, exchange, format, "GET, HEAD");
      else if (path === models) {
        openLookup(house, exchange, format, (credential) => ({ object: "list", data: house.policy().models(credential).map(listed) }));
      } else {
        openLookup(house, exchange, format, (credential) => listed(findModel(house, credential, path.slice(oneModel.length))));
      }
    },

    turnAway(exchange, fault) {
      refuse(house, exchange, format, house.random.id(), fault);
    },
  };
}

/** A model as this format lists it. Nobody knows when a route was made, and clients want a number. */
function listed({ name, route }: ListedModel) {
  return { id: name, object: "model", created: 0, owned_by: route };
}
