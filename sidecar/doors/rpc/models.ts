/**
 * Lists models page by page.
 */
import { Fault, FaultReason } from "../../../proto/fault.ts";
import type { ListModelsRequest, ListModelsResponse } from "../../../proto/gen/outrigger/chat/v1/model_service_pb.ts";
import type { ListedModel } from "../../call.ts";

/** One page of models that are sorted by name. Throws `REQUEST_INVALID` for a page size out of range and a token that is not ours. */
export function listModels(models: readonly ListedModel[], { pageSize, pageToken }: ListModelsRequest): ListModelsResponse {
  if (pageSize < 0 || pageSize > pageSizeMax) throw invalid("page_size", `must be between 0 and ${pageSizeMax}`);
  const after = pageToken === "" ? undefined : readToken(pageToken);
  // By name and not by number, so that a list that changes between two pages neither repeats nor skips what stayed.
  const rest = after === undefined ? models : models.filter(({ name }) => name > after);
  const page = rest.slice(0, pageSize === 0 ? pageSizeMax : pageSize);
  const last = page.at(-1);
  return {
    $typeName: "outrigger.chat.v1.ListModelsResponse",
    models: page.map(({ name, route }) => ({ $typeName: "outrigger.chat.v1.Model", name, route })),
    nextPageToken: last === undefined || page.length === rest.length ? "" : writeToken(last.name),
  };
}

const pageSizeMax = 1_000; // as the request's own rules say; a page of 100 KB

/** Begins every token, so that what is not one is known for it, and a later form can be told from this. */
const tokenMark = "1:";

function writeToken(name: string): string {
  return Buffer.from(tokenMark + name).toString("base64url");
}

function readToken(token: string): string {
  // The rules allow 1,024 bytes; a model's name takes 512 at most.
  const text = token.length <= 1_024 ? Buffer.from(token, "base64url").toString() : "";
  if (!text.startsWith(tokenMark)) throw invalid("page_token", "must be one that an earlier list returned");
  return text.slice(tokenMark.length);
}

function invalid(field: string, message: string): Fault {
  return new Fault(FaultReason.REQUEST_INVALID, `${field} ${message}.`, { field, violations: [{ field, message }] });
}
