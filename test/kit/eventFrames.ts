/** A writer of AWS event stream frames for tests, with a checksum that is not ours. */
import { crc32 } from "node:zlib";

/** One frame with text headers. */
export function eventFrame(headers: Readonly<Record<string, string>>, payload: string | Uint8Array): Buffer {
  const block = Buffer.concat(
    Object.entries(headers).map(([name, value]) => {
      const key = Buffer.from(name);
      const text = Buffer.from(value);
      const length = Buffer.alloc(2);
      length.writeUInt16BE(text.length);
      return Buffer.concat([Buffer.from([key.length]), key, Buffer.from([7]), length, text]);
    }),
  );
  return rawFrame(block, Buffer.from(payload));
}

/** One frame with a block of headers as it is given. */
export function rawFrame(headers: Uint8Array, payload: Uint8Array): Buffer {
  const prelude = Buffer.alloc(12);
  prelude.writeUInt32BE(16 + headers.length + payload.length, 0);
  prelude.writeUInt32BE(headers.length, 4);
  prelude.writeUInt32BE(crc32(prelude.subarray(0, 8)), 8);
  const body = Buffer.concat([prelude, headers, payload]);
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([body, sum]);
}

/** A frame that holds an event, as a provider sends it. */
export function dataFrame(type: string, payload: unknown): Buffer {
  return eventFrame({ ":event-type": type, ":content-type": "application/json", ":message-type": "event" }, JSON.stringify(payload));
}

/** A frame that says that the stream failed. */
export function exceptionFrame(type: string, message: string): Buffer {
  return eventFrame(
    { ":exception-type": type, ":content-type": "application/json", ":message-type": "exception" },
    JSON.stringify({ message }),
  );
}
