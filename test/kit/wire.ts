/**
 * Answers as providers write them, for tests that need a certain one: the two formats side by side, written by hand from the
 * providers' public references, unary and streamed.
 */

/** What the provider says. */
export interface Said {
  readonly text?: string;
  readonly toolCalls?: readonly { readonly id: string; readonly name: string; readonly argumentsJson: string }[];
  /** Pieces that the text is streamed in; the whole text at once if it is left out. */
  readonly pieces?: readonly string[];
}

const usage = { input: 11, output: 7 };

/** A unary answer in the OpenAI format. */
export function openAiBody({ text, toolCalls = [] }: Said): string {
  return JSON.stringify({
    id: "chatcmpl-1",
    object: "chat.completion",
    created: 1_700_000_000,
    model: "upstream-model",
    choices: [
      {
        index: 0,
        message: {
          role: "assistant",
          content: text ?? null,
          ...(toolCalls.length > 0 && {
            tool_calls: toolCalls.map(({ id, name, argumentsJson }) => ({
              id,
              type: "function",
              function: { name, arguments: argumentsJson },
            })),
          }),
        },
        finish_reason: toolCalls.length > 0 ? "tool_calls" : "stop",
      },
    ],
    usage: { prompt_tokens: usage.input, completion_tokens: usage.output, total_tokens: usage.input + usage.output },
  });
}

/** A streamed answer in the OpenAI format: one frame an element, `[DONE]` last. */
export function openAiStream({ text, pieces, toolCalls = [] }: Said): string[] {
  const head = { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1_700_000_000, model: "upstream-model" };
  const frame = (choices: unknown[], more: object = {}) => `data: ${JSON.stringify({ ...head, choices, ...more })}\n\n`;
  const delta = (value: object, finish_reason: string | null = null) => frame([{ index: 0, delta: value, finish_reason }]);
  const frames = [delta({ role: "assistant", content: "" })];
  for (const piece of pieces ?? (text === undefined ? [] : [text])) frames.push(delta({ content: piece }));
  toolCalls.forEach(({ id, name, argumentsJson }, index) => {
    const middle = argumentsJson.length >> 1;
    frames.push(delta({ tool_calls: [{ index, id, type: "function", function: { name, arguments: "" } }] }));
    for (const part of [argumentsJson.slice(0, middle), argumentsJson.slice(middle)]) {
      frames.push(delta({ tool_calls: [{ index, function: { arguments: part } }] }));
    }
  });
  frames.push(delta({}, toolCalls.length > 0 ? "tool_calls" : "stop"));
  frames.push(
    frame([], { usage: { prompt_tokens: usage.input, completion_tokens: usage.output, total_tokens: usage.input + usage.output } }),
  );
  frames.push("data: [DONE]\n\n");
  return frames;
}

/** A unary answer in the Responses format. */
export function responsesBody(said: Said): string {
  return JSON.stringify(response("completed", responseItems(said)));
}

/** A streamed answer in the Responses format: one frame an element. */
export function responsesStream(said: Said): string[] {
  const frames: string[] = [];
  const frame = (type: string, members: object): void => {
    frames.push(`event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: frames.length, ...members })}\n\n`);
  };
  const items = responseItems(said);
  frame("response.created", { response: response("in_progress", []) });
  frame("response.in_progress", { response: response("in_progress", []) });
  items.forEach((item, output_index) => {
    const at = { item_id: item.id, output_index };
    if (item.type === "message") {
      const inText = { ...at, content_index: 0 };
      const [part] = item.content;
      frame("response.output_item.added", { output_index, item: { ...item, status: "in_progress", content: [] } });
      frame("response.content_part.added", { ...inText, part: { ...part, text: "" } });
      for (const delta of said.pieces ?? [part.text]) frame("response.output_text.delta", { ...inText, delta, logprobs: [] });
      frame("response.output_text.done", { ...inText, text: part.text, logprobs: [] });
      frame("response.content_part.done", { ...inText, part });
    } else {
      const middle = item.arguments.length >> 1;
      frame("response.output_item.added", { output_index, item: { ...item, status: "in_progress", arguments: "" } });
      frame("response.function_call_arguments.delta", { ...at, delta: item.arguments.slice(0, middle) });
      frame("response.function_call_arguments.delta", { ...at, delta: item.arguments.slice(middle) });
      frame("response.function_call_arguments.done", { ...at, arguments: item.arguments });
    }
    frame("response.output_item.done", { output_index, item });
  });
  frame("response.completed", { response: response("completed", items) });
  return frames;
}

function response(status: string, output: readonly object[]) {
  const counted = {
    input_tokens: usage.input,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: usage.output,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: usage.input + usage.output,
  };
  return {
    id: "resp_1",
    object: "response",
    created_at: 1_700_000_000,
    status,
    error: null,
    incomplete_details: null,
    model: "upstream-model",
    output,
    parallel_tool_calls: true,
    store: false,
    tools: [],
    usage: status === "completed" ? counted : null,
  };
}

function responseItems({ text, pieces, toolCalls = [] }: Said) {
  const whole = text ?? pieces?.join("");
  const message = {
    id: "msg_1",
    type: "message" as const,
    status: "completed",
    role: "assistant",
    content: [{ type: "output_text", text: whole ?? "", annotations: [], logprobs: [] }] as const,
  };
  const calls = toolCalls.map(({ id, name, argumentsJson }, index) => ({
    id: `fc_${index + 1}`,
    type: "function_call" as const,
    status: "completed",
    call_id: id,
    name,
    arguments: argumentsJson,
  }));
  return [...(whole === undefined ? [] : [message]), ...calls];
}

/** A unary answer in the Anthropic format. */
export function anthropicBody({ text, toolCalls = [] }: Said): string {
  const content = [
    ...(text === undefined ? [] : [JSON.stringify({ type: "text", text })]),
    ...toolCalls.map(
      ({ id, name, argumentsJson }) =>
        `{"type":"tool_use","id":${JSON.stringify(id)},"name":${JSON.stringify(name)},"input":${argumentsJson}}`,
    ),
  ];
  return `{"id":"msg_1","type":"message","role":"assistant","model":"upstream-model","content":[${content.join(",")}],"stop_reason":"${
    toolCalls.length > 0 ? "tool_use" : "end_turn"
  }","stop_sequence":null,"usage":{"input_tokens":${usage.input},"output_tokens":${usage.output}}}`;
}

/** A streamed answer in the Anthropic format: one frame an element. */
export function anthropicStream({ text, pieces, toolCalls = [] }: Said): string[] {
  const frame = (value: { readonly type: string; readonly [member: string]: unknown }) =>
    `event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`;
  const message = {
    id: "msg_1",
    type: "message",
    role: "assistant",
    model: "upstream-model",
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage: { input_tokens: usage.input, output_tokens: 1 },
  };
  const frames = [frame({ type: "message_start", message }), frame({ type: "ping" })];
  let index = 0;
  const texts = pieces ?? (text === undefined ? [] : [text]);
  if (texts.length > 0) {
    frames.push(frame({ type: "content_block_start", index, content_block: { type: "text", text: "" } }));
    for (const piece of texts) frames.push(frame({ type: "content_block_delta", index, delta: { type: "text_delta", text: piece } }));
    frames.push(frame({ type: "content_block_stop", index }));
    index++;
  }
  for (const { id, name, argumentsJson } of toolCalls) {
    const middle = argumentsJson.length >> 1;
    frames.push(frame({ type: "content_block_start", index, content_block: { type: "tool_use", id, name, input: {} } }));
    for (const part of [argumentsJson.slice(0, middle), argumentsJson.slice(middle)]) {
      frames.push(frame({ type: "content_block_delta", index, delta: { type: "input_json_delta", partial_json: part } }));
    }
    frames.push(frame({ type: "content_block_stop", index }));
    index++;
  }
  frames.push(
    frame({
      type: "message_delta",
      delta: { stop_reason: toolCalls.length > 0 ? "tool_use" : "end_turn", stop_sequence: null },
      usage: { output_tokens: usage.output },
    }),
  );
  frames.push(frame({ type: "message_stop" }));
  return frames;
}

/** What both formats' answers say of usage. */
export const saidUsage = usage;
