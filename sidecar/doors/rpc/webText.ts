/**
 * gRPC-Web's base64 form, for callers that can only read text (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md): an
 * exchange that looks like the binary form to everything behind it.
 */
import { Fault, FaultReason } from "../../../proto/fault.ts";
import type { Exchange } from "../exchange.ts";

/** The media types of this form begin so; what follows is the codec. */
export const webTextPrefix = "application/grpc-web-text";

/** An exchange whose body is base64 both ways, seen as one whose body is not. */
export class WebTextExchange implements Exchange {
  readonly protocol: Exchange["protocol"];
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly peer: string;
  readonly #outer: Exchange;

  constructor(outer: Exchange) {
    this.#outer = outer;
    this.protocol = outer.protocol;
    this.method = outer.method;
    this.path = outer.path;
    this.query = outer.query;
    this.peer = outer.peer;
  }

  get bufferedBytes(): number {
    return this.#outer.bufferedBytes;
  }

  get writable(): boolean {
    return this.#outer.writable;
  }

  get extraHeaders(): readonly string[] {
    return this.#outer.extraHeaders;
  }

  set extraHeaders(headers: readonly string[]) {
    this.#outer.extraHeaders = headers;
  }

  header(name: string): string | undefined {
    const value = this.#outer.header(name);
    return name === "content-type" ? value?.replace(/^application\/grpc-web-text/i, "application/grpc-web") : value;
  }

  body(bytesMax: number, done: (fault: Fault | undefined, body: Uint8Array) => void): void {
    // Four characters for three bytes, and padding of up to three more for each piece that the caller encoded on its own.
    const encodedMax = Math.ceil(bytesMax / 3) * 4 + encodedSlack;
    this.#outer.body(encodedMax, (fault, encoded) => {
      if (fault !== undefined) return done(fault, encoded);
      const decoded = decodeBase64(encoded);
      if (decoded === undefined)
        return done(new Fault(FaultReason.REQUEST_INVALID, `The request's body is not base64 in at most ${piecesMax} pieces.`), encoded);
      done(undefined, decoded);
    });
  }

  pieces(take: (piece: Uint8Array) => void, done: (fault: Fault | undefined) => void): void {
    // Text cannot be streamed upwards from where this form is needed, so the body is small and comes whole.
    this.body(encodedSlack, (fault, body) => {
      if (fault === undefined) take(body);
      done(fault);
    });
  }

  head(status: number, headers: readonly string[], trailers?: boolean): void {
    this.#outer.head(status, asText(headers), trailers);
  }

  write(data: Uint8Array | string): boolean {
    return this.#outer.write(base64(data));
  }

  drained(then: () => void): void {
    this.#outer.drained(then);
  }

  end(data?: Uint8Array | string, trailers?: readonly string[]): void {
    this.#outer.end(data === undefined ? undefined : base64(data), trailers);
  }

  reset(): void {
    this.#outer.reset();
  }

  gone(then: (fault: Fault) => void): void {
    this.#outer.gone(then);
  }
}

/**
 * The bytes of base64 text in which up to `piecesMax` pieces, each with its padding, may follow each other; undefined if it is anything
 * else.
 */
export function decodeBase64(encoded: Uint8Array): Uint8Array | undefined {
  const text = Buffer.from(encoded.buffer, encoded.byteOffset, encoded.byteLength).toString("latin1");
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/=]*$/.test(text)) return undefined;
  const pieces: Uint8Array[] = [];
  let start = 0;
  while (start < text.length) {
    const padding = text.indexOf("=", start);
    // A piece's padding fills its last group of four.
    const end = padding === -1 ? text.length : padding - (padding % 4) + 4;
    const piece = text.slice(start, end);
    if (!/^[^=]*={0,2}$/.test(piece)) return undefined;
    // Each costs a hundred times its four characters, and a body within its limit of bytes could hold millions.
    if (pieces.length === piecesMax) return undefined;
    pieces.push(Buffer.from(piece, "base64"));
    start = end;
  }
  return pieces.length === 1 ? pieces[0] : Buffer.concat(pieces);
}

const piecesMax = 16 * 1024; // browsers send one
const encodedSlack = 4 * piecesMax;

/** Each piece is padded, so that its last bytes can be decoded when they come and no token waits for the next. */
function base64(data: Uint8Array | string): string {
  const bytes = typeof data === "string" ? Buffer.from(data) : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return bytes.toString("base64");
}

/** The head of the base64 form. Its length is another, and not known before its last piece. */
function asText(headers: readonly string[]): readonly string[] {
  const list: string[] = [];
  for (let index = 0; index + 1 < headers.length; index += 2) {
    const [name = "", value = ""] = [headers[index], headers[index + 1]];
    if (name === "content-type") list.push(name, value.replace("application/grpc-web", webTextPrefix));
    else if (name !== "content-length") list.push(name, value);
  }
  return list;
}
