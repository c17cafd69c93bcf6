/**
 * Names of fields as this API's callers wrote them. Faults and warnings name fields as the conversation has them, where a turn of blocks
 * may have become several messages, instructions are the first one, and parameters have other names.
 *
 * Which block became which part follows from the body alone. It is looked at again only when there is something to be told.
 */
import { isObject } from "../../framing/json.ts";

/** The caller's name of a field of the conversation, by the body that the caller sent; the same name if there is no other. */
export function ownField(field: string, body: string): string {
  const inMessage = /^messages\[(\d+)\](?:\.parts\[(\d+)\])?(.*)$/.exec(field);
  if (inMessage === null) return ownParameter(field);
  const [, message = "", part, rest = ""] = inMessage;
  const place = placesIn(body)[Number(message)];
  if (place === undefined) return field;
  if (part === undefined) return place.path + ownMember(rest);
  const block = place.blocks?.[Number(part)];
  if (block === undefined) return place.content + ownMember(rest);
  const inResult = /^\.tool_result\.parts\[(\d+)\](.*)$/.exec(rest);
  if (inResult === null) return block.path + ownMember(rest);
  const [, inner = "", innerRest = ""] = inResult;
  return `${block.path}.content${block.isListed ? `[${inner}]` : ""}${ownMember(innerRest)}`;
}

/** Where a message of the conversation stands in the body. */
interface Place {
  readonly path: string;
  /** Where its content is. */
  readonly content: string;
  /** Where each of its parts is; undefined where the content is a text. */
  readonly blocks: readonly BlockPlace[] | undefined;
}

interface BlockPlace {
  readonly path: string;
  /** Of what a tool returned: whether its content is a list. */
  readonly isListed: boolean;
}

/** The places of all messages, made by the rules by which `readRequest.ts` makes the messages. */
function placesIn(body: string): Place[] {
  const root: unknown = JSON.parse(body);
  if (!isObject(root)) return [];
  const places: Place[] = [];
  if (root.system !== undefined && root.system !== null && root.system !== "") places.push(placeOf("system", "system", root.system));
  const messages: readonly unknown[] = Array.isArray(root.messages) ? root.messages : [];
  messages.forEach((message, index) => {
    const path = `messages[${index}]`;
    const content = `${path}.content`;
    const given = isObject(message) ? message.content : undefined;
    if (!isObject(message) || message.role !== "user" || !Array.isArray(given)) {
      places.push(placeOf(path, content, given));
      return;
    }
    // Each result is a message of its own; what stands between results is one.
    let spoken: BlockPlace[] | undefined;
    given.forEach((block: unknown, at) => {
      const place = blockPlace(block, `${content}[${at}]`);
      if (isObject(block) && block.type === "tool_result") {
        spoken = undefined;
        places.push({ path: place.path, content: place.path, blocks: [place] });
      } else if (spoken === undefined) {
        spoken = [place];
        places.push({ path, content, blocks: spoken });
      } else spoken.push(place);
    });
    if (given.length === 0) places.push({ path, content, blocks: [] });
  });
  return places;
}

function placeOf(path: string, content: string, given: unknown): Place {
  const blocks = Array.isArray(given) ? given.map((block: unknown, at) => blockPlace(block, `${content}[${at}]`)) : undefined;
  return { path, content, blocks };
}

function blockPlace(block: unknown, path: string): BlockPlace {
  return { path, isListed: isObject(block) && Array.isArray(block.content) };
}

/** The name of what is within a message or a block. */
function ownMember(rest: string): string {
  const plain = rest.replace(/^\.(?:image|file|audio|text|reasoning|refusal|extra|tool_call|tool_result)(?=\.|$)/, "");
  return memberNames[plain] ?? plain;
}

const memberNames: Readonly<Record<string, string>> = Object.freeze({
  ".cache": ".cache_control",
  ".arguments_json": ".input",
  ".tool_call_id": ".tool_use_id",
  ".media_type": ".source.media_type",
});

function ownParameter(field: string): string {
  const [, tool, rest = ""] = /^(tools\[\d+\])\.(.*)$/.exec(field) ?? [];
  if (tool !== undefined) return `${tool}.${toolMembers[rest] ?? rest}`;
  const known = parameterNames[field];
  if (known !== undefined) return known;
  if (field.startsWith("response_format")) return "output_config.format";
  return field.startsWith("reasoning") ? "thinking" : field;
}

const toolMembers: Readonly<Record<string, string>> = Object.freeze({ parameters_json: "input_schema", cache: "cache_control" });

const parameterNames: Readonly<Record<string, string>> = Object.freeze({
  max_output_tokens: "max_tokens",
  stop: "stop_sequences",
  user: "metadata.user_id",
  parallel_tool_calls: "tool_choice.disable_parallel_tool_use",
  "reasoning.effort": "output_config.effort",
  "reasoning.budget_tokens": "thinking.budget_tokens",
});
