/**
 * Checks a request for vectors against the rules that stand in `outrigger/chat/v1/embedding_service.proto`. By hand for the reason that
 * `validateChat.ts` gives, and held to the rules by a property in the same way.
 */
import type { FieldViolation } from "./fault.ts";
import { EmbeddingPurpose, type EmbeddingRequest } from "./gen/outrigger/chat/v1/embedding_service_pb.ts";
import { utf8Length } from "./utf8.ts";

/** Nobody reads more than the first few. */
const violationsMax = 16;

/**
 * The rules that a request breaks, the first 16 at most, or none. `at` is the path of the request itself, such as `embedding`; a request
 * that is not there breaks the rule that it must be.
 */
export function validateEmbedding(request: EmbeddingRequest | undefined, at: string): readonly FieldViolation[] {
  if (request === undefined) return [{ field: at, message: "is required" }];
  const found: FieldViolation[] = [];
  const add = (field: string, message: string): void => {
    if (found.length < violationsMax) found.push({ field: `${at}.${field}`, message });
  };
  const { model, inputs, dimensions, purpose, user, extras } = request;
  if (!lengthWithin(model, 1, 512)) add("model", "must be 1 to 512 bytes long");
  if (inputs.length < 1) add("inputs", "must have at least one input");
  else if (inputs.length > 2_048) add("inputs", "must have at most 2048 items");
  for (let index = 0; index < inputs.length && found.length < violationsMax; index++) {
    const content = inputs[index]?.content;
    if (content?.case === undefined) add(`inputs[${index}].content`, "must be one of text, tokens");
    else if (content.case === "text" && content.value === "") add(`inputs[${index}].text`, "must not be empty");
    else if (content.case === "tokens" && content.value.ids.length === 0) add(`inputs[${index}].tokens.ids`, "must not be empty");
  }
  if (dimensions !== undefined && !(dimensions >= 1 && dimensions <= 65_536)) add("dimensions", "must be between 1 and 65536");
  if (!(purpose >= EmbeddingPurpose.UNSPECIFIED && purpose <= EmbeddingPurpose.CLUSTERING)) add("purpose", "must be one of the purposes");
  if (!lengthWithin(user, 0, 1_024)) add("user", "must be at most 1024 bytes long");
  if (extras.length > 1_024) add("extras", "must have at most 1024 items");
  for (const [index, { dialect, path }] of extras.entries()) {
    if (found.length >= violationsMax) break;
    if (!lengthWithin(dialect, 1, 64)) add(`extras[${index}].dialect`, "must be 1 to 64 bytes long");
    if (!lengthWithin(path, 0, 1_024)) add(`extras[${index}].path`, "must be at most 1024 bytes long");
  }
  return found;
}

/** Whether a text is from `min` to `max` bytes long as UTF-8. A unit is at most three bytes, so most texts are not counted. */
function lengthWithin(text: string, min: number, max: number): boolean {
  return text.length >= min && (text.length * 3 <= max || utf8Length(text) <= max);
}
