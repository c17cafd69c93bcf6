/** The door for callers that speak OpenAI's format, which also answers whoever knocks where there is no door. */
import type { Fault } from "../../proto/fault.ts";
import type { EmbeddingRequest } from "../../proto/gen/outrigger/chat/v1/embedding_service_pb.ts";
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
const texts = "/v1/completions";
const embeddings = "/v1/embeddings";
const models = "/v1/models";
const oneModel = "/v1/models/";

/** The server halves of the dialect that this door speaks, by what is asked. */
export interface OpenAiHalves {
  readonly chat: ServerHalf;
  /** Of the older form, in which a text is gone on with. */
  readonly texts: ServerHalf;
  readonly embeddings: ServerHalf<EmbeddingRequest>;
}

/** Opens the door. */
export function openAiDoor(house: House, halves: OpenAiHalves, requestBytesMax: number): OpenAiDoor {
  const format: PlainFormat = { name: "openai", half: halves.chat, requestBytesMax };
  const asked: ReadonlyMap<string, PlainFormat> = new Map([
    [completions, format],
    [texts, { ...format, half: halves.texts }],
    [embeddings, { ...format, half: halves.embeddings }],
  ]);
  return {
    accepts({ path }) {
      return asked.has(path) || path === models || path.startsWith(oneModel);
    },

    open(exchange) {
      const { method, path } = exchange;
      const called = asked.get(path);
      if (called !== undefined) {
        if (method === "POST") openCall(house, exchange, called);
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
