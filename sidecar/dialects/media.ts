/** Pictures, sounds and documents as JSON holds them: data URLs (RFC 2397) and bare base64. */

/** Bytes with their media type. */
export interface InlineMedia {
  readonly mediaType: string;
  readonly data: Uint8Array;
}

/** Reads a base64 data URL; undefined if it is something else, or its base64 is broken. */
export function readDataUrl(url: string): InlineMedia | undefined {
  const comma = url.indexOf(",");
  if (comma === -1 || !/^data:/i.test(url)) return undefined;
  const [mediaType = "", ...parameters] = url.slice("data:".length, comma).split(";");
  if (parameters.at(-1)?.trim().toLowerCase() !== "base64") return undefined;
  const data = readBase64(url, comma + 1);
  // Parameters such as a charset are kept, since the provider may look at them.
  const kept = parameters.slice(0, -1).map((parameter) => `;${parameter}`);
  const type = (mediaType.trim() || "text/plain") + kept.join("");
  return data === undefined || Buffer.byteLength(type) > MEDIA_TYPE_BYTES_MAX ? undefined : { mediaType: type, data };
}

/** The conversation's limit. */
const MEDIA_TYPE_BYTES_MAX = 128;

/** Writes bytes as a data URL. */
export function writeDataUrl({ mediaType, data }: InlineMedia): string {
  return `data:${mediaType};base64,${writeBase64(data)}`;
}

/** Reads base64 from a position on; undefined if a character is not of its alphabet or its length is impossible. */
export function readBase64(text: string, from = 0): Uint8Array | undefined {
  let end = text.length;
  while (end > from && end > text.length - 2 && text[end - 1] === "=") end--;
  const characters = end - from;
  if (characters % 4 === 1) return undefined;
  const data = Buffer.from(text.slice(from, end), "base64");
  // The decoder skips what is not of the alphabet, so a broken text gives fewer bytes than its length says.
  return data.length === Math.floor((characters * 3) / 4) ? data : undefined;
}

/** Writes bytes as base64. */
export function writeBase64(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64");
}

/** The media type of a sound by the word that this dialect has for its format. */
export function audioMediaType(format: string): string {
  return format === "mp3" ? "audio/mpeg" : `audio/${format}`;
}

/** The word for a sound's format, or undefined for what is no sound. */
export function audioFormat(mediaType: string): string | undefined {
  if (mediaType === "audio/mpeg") return "mp3";
  return /^audio\/(?:x-)?([\w.+-]+)$/.exec(mediaType)?.[1];
}
