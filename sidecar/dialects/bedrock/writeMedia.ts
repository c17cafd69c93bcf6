/** Pictures and documents as blocks of the Converse API, which takes bytes, or an address in the platform's own storage (`s3://`). */
import type { Media } from "../../../proto/gen/outrigger/chat/v1/conversation_pb.ts";
import type { JsonValue } from "../../framing/json.ts";
import type { Report } from "../report.ts";

/** A block with the member by which its kind is known. */
export type Block = { readonly [key: string]: JsonValue | undefined };

/** Writes media of one request; it remembers which names documents have, since no two may have the same. */
export class MediaWriter {
  readonly #report: Report;
  readonly #documentNames = new Set<string>();

  constructor(report: Report) {
    this.#report = report;
  }

  /** The block, or undefined if it is left out. `field` names it in reports. */
  write(media: Media, kind: "image" | "file", field: string): Block | undefined {
    if (media.detail !== "" && media.detail !== "auto") {
      this.#report.dropped(`${field}.image.detail`, "This provider decides for itself how closely to look at a picture.");
    }
    const found = this.#source(media, field);
    if (found === undefined) return undefined;
    const { mediaType, source } = found;
    const isImage = kind === "image" || mediaType.startsWith("image/");
    const format = (isImage ? imageFormats : documentFormats).get(mediaType);
    if (format === undefined) {
      this.#report.unsupported(`${field}.media_type`, ` with the value ${JSON.stringify(mediaType)}`);
      return undefined;
    }
    if (isImage) return { image: { format, source } };
    return { document: { format, name: this.#documentName(media.filename), source } };
  }

  #source({ source, mediaType, filename }: Media, field: string): { mediaType: string; source: Block } | undefined {
    switch (source.case) {
      case "data": {
        const { buffer, byteOffset, byteLength } = source.value;
        const bytes = Buffer.from(buffer, byteOffset, byteLength).toString("base64");
        return { mediaType: bare(mediaType), source: { bytes } };
      }
      case "url": {
        const { value: url } = source;
        const inline = /^data:([^;,]*)(?:;[^;,]*)*;base64,/i.exec(url);
        if (inline !== null) {
          return { mediaType: bare(inline[1] || mediaType), source: { bytes: url.slice(inline[0].length) } };
        }
        if (url.startsWith("s3://")) {
          return { mediaType: bare(mediaType) || typeOfName(filename || url), source: { s3Location: { uri: url } } };
        }
        this.#report.unsupported(field, " by address: this provider fetches nothing");
        return undefined;
      }
      case "fileId":
        this.#report.unsupported(field, " as an uploaded file");
        return undefined;
      default:
        throw this.#report.invalid(field, "a picture or document needs a source");
    }
  }

  /** Names have letters, digits, single blanks, hyphens, parentheses and brackets, and each stands once in a request. */
  #documentName(filename: string): string {
    const plain =
      filename
        .replace(/\.[A-Za-z0-9]{1,5}$/, "")
        .replace(/[^A-Za-z0-9\s()[\]-]/g, "-")
        .replace(/\s+/g, " ")
        .trim()
        .slice(0, 190) || "document";
    let name = plain;
    for (let n = 2; this.#documentNames.has(name); n++) name = `${plain} ${n}`;
    this.#documentNames.add(name);
    return name;
  }
}

/** A media type without its parameters. */
function bare(mediaType: string): string {
  return (mediaType.split(";")[0] ?? "").trim().toLowerCase();
}

/** The media type that a name's ending stands for, or the ending itself, for the message that it is none. */
function typeOfName(name: string): string {
  const ending = /\.([A-Za-z0-9]+)$/.exec(name)?.[1]?.toLowerCase() ?? "";
  const format = ending === "jpg" ? "jpeg" : ending === "htm" ? "html" : ending;
  for (const [type, known] of [...imageFormats, ...documentFormats]) if (known === format) return type;
  return ending;
}

const imageFormats: ReadonlyMap<string, string> = new Map([
  ["image/png", "png"],
  ["image/jpeg", "jpeg"],
  ["image/jpg", "jpeg"],
  ["image/gif", "gif"],
  ["image/webp", "webp"],
]);

const documentFormats: ReadonlyMap<string, string> = new Map([
  ["application/pdf", "pdf"],
  ["text/csv", "csv"],
  ["application/msword", "doc"],
  ["application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"],
  ["application/vnd.ms-excel", "xls"],
  ["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"],
  ["text/html", "html"],
  ["text/plain", "txt"],
  ["text/markdown", "md"],
]);
