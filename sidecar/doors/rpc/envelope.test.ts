import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Fault } from "../../../proto/fault.ts";
import { compressedFlag, onlyMessage, wrap, wrapText } from "./envelope.ts";

function reason(act: () => unknown): string {
  try {
    act();
  } catch (caught) {
    if (caught instanceof Fault) return caught.kind.name;
    throw caught;
  }
  return "none";
}

const message = fc.uint8Array({ maxLength: 300 });

describe("onlyMessage", () => {
  test("reads what wrap wrote", () => {
    fc.assert(
      fc.property(message, fc.constantFrom(0, compressedFlag), (bytes, flags) => {
        const read = onlyMessage(wrap(flags, bytes), 300);
        expect(read.flags).toBe(flags);
        expect(new Uint8Array(read.message)).toEqual(bytes);
      }),
    );
  });

  test("refuses a body that ends anywhere within its envelope, and one that is longer", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 30 }), (bytes) => {
        const whole = wrap(0, bytes);
        expect(reason(() => onlyMessage(whole.subarray(0, 0), 300))).toBe("MESSAGE_COUNT_INVALID");
        for (let end = 1; end < whole.byteLength; end++) {
          expect(reason(() => onlyMessage(whole.subarray(0, end), 300))).toBe("REQUEST_INVALID");
        }
        expect(reason(() => onlyMessage(Buffer.concat([whole, whole]), 300))).toBe("MESSAGE_COUNT_INVALID");
        expect(reason(() => onlyMessage(Buffer.concat([whole, Buffer.of(0)]), 300))).toBe("MESSAGE_COUNT_INVALID");
      }),
    );
  });

  test("refuses every flag that a request may not have", () => {
    for (let flags = 2; flags < 256; flags++) {
      expect(reason(() => onlyMessage(wrap(flags, Buffer.of(1)), 300))).toBe("REQUEST_INVALID");
    }
  });

  test("believes the length before it waits for the message", () => {
    expect(reason(() => onlyMessage(Buffer.of(0, 0xff, 0xff, 0xff, 0xff), 300))).toBe("REQUEST_TOO_LARGE");
    expect(reason(() => onlyMessage(wrap(0, new Uint8Array(301)), 300))).toBe("REQUEST_TOO_LARGE");
    expect(reason(() => onlyMessage(wrap(0, new Uint8Array(300)), 300))).toBe("none");
  });
});

test("wrapText counts bytes, not characters", () => {
  expect([...wrapText(2, "é€")]).toEqual([2, 0, 0, 0, 5, ...Buffer.from("é€")]);
});
