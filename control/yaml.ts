/** Resources as YAML, the same text for all that mean the same. */
import { stringify } from "yaml";
import type { Resource } from "../proto/resources/kinds.ts";
import { writeForm } from "../proto/resources/written.ts";

/** One resource as a document, without the line that begins it. */
export function yamlOf(resource: Resource): string {
  // Long texts stay on one line: folded ones cannot be searched, and a change of one word would change them all.
  return stringify(writeForm(resource).form, { lineWidth: 0, version: "1.2" });
}

/** Several resources as one text. */
export function yamlOfAll(resources: readonly Resource[]): string {
  return resources.map((resource) => `---\n${yamlOf(resource)}`).join("");
}
