/**
 * The compressions that RPC messages may have, in the form that Connect's generic stack takes them.
 */
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";
import type { ConnectError } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import type { Fault } from "../../../proto/fault.ts";
import { inflateBody } from "../inflate.ts";

/** The names of the compressions that are taken, in the order in which answers prefer them. */
export const compressionNames: readonly string[] = Object.freeze(["gzip", "br"]);

/** All compressions. `refusal` makes the error that a caller is told of a fault. */
export function compressions(refusal: (fault: Fault) => ConnectError): Compression[] {
  const zip = promisify(gzip);
  const brotli = promisify(brotliCompress);
  return [
    { name: "gzip", compress: (bytes) => owned(zip(bytes)), decompress: decompressor("gzip", refusal) },
    {
      name: "br",
      // Brotli's default effort is meant for files that are compressed once.
      compress: (bytes) => owned(brotli(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } })),
      decompress: decompressor("br", refusal),
    },
  ];
}

function decompressor(name: string, refusal: (fault: Fault) => ConnectError): Compression["decompress"] {
  return (bytes, readMaxBytes) =>
    new Promise((resolve, reject) => {
      // A message of no bytes is one of no bytes, compressed or not.
      if (bytes.byteLength === 0) return resolve(new Uint8Array(0));
      inflateBody(name, bytes, readMaxBytes, (fault, inflated) => {
        if (fault === undefined) resolve(inflated as Uint8Array<ArrayBuffer>);
        else reject(refusal(fault));
      });
    });
}

async function owned(bytes: Promise<Buffer>): Promise<Uint8Array<ArrayBuffer>> {
  return (await bytes) as Uint8Array<ArrayBuffer>;
}
