/**
 * Seals of thinking. This API signs nothing, but it has two places for what a model thinks, and takes each back only where it came from:
 * blocks of content, and the plan that stands beside tool calls. The seal says which, and that the thinking is this API's own.
 */

/** The seal of a block of thinking among the content. */
export const THINKING = "thinking";

/** The seal of a plan. */
export const PLAN = "tool_plan";
