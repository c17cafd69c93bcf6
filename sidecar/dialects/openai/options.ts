/**
 * What is particular to an endpoint that speaks this dialect. Dozens of servers borrowed it, and each knows a little less or a little
 * more of it; every such difference is a property here, so that no code asks who a server is.
 */

/** The properties of an endpoint. What is left out is as its comment says, which is how most servers are. */
export interface OpenAiOptions {
  /** The field that limits the answer. */
  readonly maxTokensField: "max_completion_tokens" | "max_tokens";
  /** Whether the developer role is known; where not, it is sent as system. */
  readonly developerRole: boolean;
  /** Whether usage in streams can be asked for. Where not, nothing is said of it: some servers refuse the question and always tell. */
  readonly streamUsage: boolean;
  /**
   * What stands in the path before `/chat/completions`; nothing if left out. `{model}` stands for the model's name as one step of the
   * path, `{+model}` for one whose slashes are steps (RFC 6570 section 3.2).
   */
  readonly pathPrefix?: string;
  /** Parameters of the address, such as a version of the API; none if left out. */
  readonly query?: Readonly<Record<string, string>>;
  /**
   * How far a tool can be chosen: `named` if a single one can be (if left out), `modes` if only that there must be a call, `none` if
   * the server leaves it to the model.
   */
  readonly toolChoice?: "named" | "modes" | "none";
  /** The word for "call a tool, whichever"; `required` if left out. */
  readonly requiredWord?: "required" | "any";
  /** Ids of tool calls must be exactly this many letters and digits; 0, if left out, for any. */
  readonly toolCallIdLength?: number;
  /**
   * How thinking of earlier turns is given back: in a member of the message (`reasoning_content` if left out), as parts of its content,
   * or not at all, where servers refuse such members.
   */
  readonly thinking?: "reasoning_content" | "reasoning" | "parts" | "none";
  /** Whether the server refuses members that it does not know, null or not; no if left out. Requests are then always written anew. */
  readonly strictMembers?: boolean;
  /** Whether parts and tools may be marked for the prompt cache with `cache_control`; no if left out. */
  readonly cacheMarkers?: boolean;
  /** Whether there is a parameter `top_k`; no if left out. */
  readonly topK?: boolean;
  /** Whether `top_p` may be 1; yes if left out. Where not, 1 is not sent, which means the same. */
  readonly wholeTopP?: boolean;
  /** The name of the parameter for a seed; `seed` if left out. */
  readonly seedField?: "seed" | "random_seed";
  /** The words of effort that are known; empty, if left out, for all. The nearest one is sent for another. */
  readonly reasoningEfforts?: readonly string[];
  /** Models that go on with a text, at `/completions`: names in which `*` stands for anything; none if left out. */
  readonly textModels?: readonly string[];
  /** The name of the parameter for the length of vectors; `dimensions` if left out. */
  readonly dimensionsField?: "dimensions" | "output_dimension";
  /** Whether vectors can be asked for as base64, which is a quarter of the bytes; no if left out. Both forms are always understood. */
  readonly base64Vectors?: boolean;
  /** How JSON is asked for: by the dialect's own forms (if left out), or by a schema as the `value` of the type `json`. */
  readonly jsonForm?: "json_schema" | "value";
  /**
   * Whether tools may have names of any form; no if left out. Where not, names of another form than the first API's own are sent under
   * others and restored in the answer.
   */
  readonly freeToolNames?: boolean;
  /** Whether a user may speak straight after a tool; yes if left out. Where not, a short turn of the assistant is put between. */
  readonly userAfterTool?: boolean;
}
