/**
 * Where an extra stood: paths that name a member of something the conversation models.
 *
 * A path consists of a container and a member, such as `messages[2].parts[0].` and `citations`. Containers count messages and parts as
 * the conversation does, not as the wire does, so that they still fit when neighbours are merged or hoisted.
 */

/** The path of a member in a container; containers end in a dot, and the top's is empty. */
export function extraPath(container: string, member: string): string {
  // A name with other characters could be taken for a container of its own.
  return plain.test(member) ? container + member : `${container}[${JSON.stringify(member)}]`;
}

/** The container and the member of a path, or undefined if it is none. */
export function splitExtraPath(path: string): { readonly container: string; readonly member: string } | undefined {
  const container = containers.exec(path)?.[0] ?? "";
  const rest = path.slice(container.length);
  if (plain.test(rest)) return { container, member: rest };
  if (!rest.startsWith('["') || !rest.endsWith('"]')) return undefined;
  try {
    const member: unknown = JSON.parse(rest.slice(1, -1));
    return typeof member === "string" ? { container, member } : undefined;
  } catch {
    return undefined;
  }
}

const plain = /^[A-Za-z0-9_-]+$/;

const containers =
  /^(?:(?:messages\[\d+\]\.(?:parts\[\d+\]\.)*|tools\[\d+\]\.)(?:source\.|cache_control\.)?|(?:metadata|thinking|output_config\.format|output_config|tool_choice|headers)\.)/;
