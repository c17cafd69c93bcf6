/** Takes the compression off a request's body, without being made to hold more than a body may be. */
import { type BrotliOptions, brotliDecompress, gunzip, inflate, type ZlibOptions, type ZstdOptions, zstdDecompress } from "node:zlib";
import { Fault, FaultReason } from "../../proto/fault.ts";

/** A body may become this much larger: JSON of prompts shrinks ten times at most, and what shrinks a hundred times is made to. */
const ratioMax = 100;

/** Up to here no ratio is looked at: a small body says little, and costs nothing. */
const unsuspiciousBytes = 64 * 1024;

type Done = (error: Error | null, bytes: Uint8Array) => void;

const codings: ReadonlyMap<string, (body: Uint8Array, maxOutputLength: number, done: Done) => void> = new Map([
  ["gzip", (body, maxOutputLength, done) => gunzip(body, { maxOutputLength } satisfies ZlibOptions, done)],
  ["x-gzip", (body, maxOutputLength, done) => gunzip(body, { maxOutputLength } satisfies ZlibOptions, done)],
  ["deflate", (body, maxOutputLength, done) => inflate(body, { maxOutputLength } satisfies ZlibOptions, done)],
  ["br", (body, maxOutputLength, done) => brotliDecompress(body, { maxOutputLength } satisfies BrotliOptions, done)],
  ["zstd", (body, maxOutputLength, done) => zstdDecompress(body, { maxOutputLength } satisfies ZstdOptions, done)],
]);

/** Whether a `content-encoding` says that a body is as it is. */
export function isPlain(contentEncoding: string | undefined): boolean {
  return contentEncoding === undefined || contentEncoding === "" || contentEncoding.trim().toLowerCase() === "identity";
}

/**
 * Takes off the coding that a `content-encoding` names (RFC 9110 section 8.4). One coding only: nobody stacks them but to hide a bomb.
 * `done` is called once: with `ENCODING_UNSUPPORTED`, with `REQUEST_TOO_LARGE` where the body would be larger than `bytesMax` or is
 * more than a hundred times what was sent, or with `REQUEST_INVALID` where it is not what the header says.
 */
export function inflateBody(
  contentEncoding: string,
  body: Uint8Array,
  bytesMax: number,
  done: (fault: Fault | undefined, body: Uint8Array) => void,
): void {
  const coding = contentEncoding.trim().toLowerCase();
  const decode = codings.get(coding);
  if (decode === undefined) {
    done(unsupported(contentEncoding), body);
    return;
  }
  const outputMax = Math.min(bytesMax, Math.max(body.byteLength * ratioMax, unsuspiciousBytes));
  decode(body, outputMax, (error, bytes) => {
    if (error === null) done(undefined, bytes);
    else done("code" in error && error.code === "ERR_BUFFER_TOO_LARGE" ? bomb(outputMax) : broken(coding, error), body);
  });
}

function unsupported(contentEncoding: string): Fault {
  const seen = contentEncoding.slice(0, 100);
  return new Fault(
    FaultReason.ENCODING_UNSUPPORTED,
    `The request's content-encoding is '${seen}'. Send one of gzip, deflate, br, zstd or identity, and only one.`,
    { facts: { content_encoding: seen } },
  );
}

function bomb(outputMax: number): Fault {
  return new Fault(FaultReason.REQUEST_TOO_LARGE, `The request's body is larger than ${outputMax} bytes once it is decompressed.`, {
    facts: { bytes_max: String(outputMax) },
  });
}

function broken(coding: string, cause: Error): Fault {
  return new Fault(FaultReason.REQUEST_INVALID, `The request's content-encoding says ${coding}, and its body is not that.`, { cause });
}
