/** JSON text for people, in golden files. */
import { elementSpans, memberSpans } from "../../sidecar/framing/json.ts";

/** JSON text with a line for each member that is not small; what is small stays byte for byte as it was written. */
export function pretty(text: string, indent = ""): string {
  const inner = `${indent}  `;
  if (text.length + indent.length <= 120 || !/^[[{]/.test(text)) return text;
  const isList = text.startsWith("[");
  const entries = isList
    ? elementSpans(text).map(({ start, end }) => pretty(text.slice(start, end), inner))
    : memberSpans(text).map(
        ({ key, valueStart, valueEnd }) => `${JSON.stringify(key)}: ${pretty(text.slice(valueStart, valueEnd), inner)}`,
      );
  const lines = entries.map((entry) => inner + entry).join(",\n");
  return `${isList ? "[" : "{"}\n${lines}\n${indent}${isList ? "]" : "}"}`;
}
