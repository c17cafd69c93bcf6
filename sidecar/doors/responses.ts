/** The door for callers that speak the Responses format. It keeps nothing: there is no answer to get again, to delete or to go on from. */
import type { House } from "../call.ts";
import type { ServerHalf } from "../dialects/dialect.ts";
import type { Door } from "./exchange.ts";
import { nothingHere, openCall, openOtherMethod, type PlainFormat, refuse } from "./plain.ts";

const responses = "/v1/responses";
const belowResponses = "/v1/responses/";

/** `half` is the server half of the dialect that this door speaks. */
export function responsesDoor(house: House, half: ServerHalf, requestBytesMax: number): Door {
  const format: PlainFormat = { name: "responses", half, requestBytesMax };
  return {
    accepts({ path }) {
      return path === responses || path.startsWith(belowResponses);
    },

    open(exchange) {
      if (exchange.path !== responses) refuse(house, exchange, format, house.random.id(), nothingHere(exchange));
      else if (exchange.method === "POST") openCall(house, exchange, format);
      else openOtherMethod(house, exchange, format, "POST");
    },
  };
}
