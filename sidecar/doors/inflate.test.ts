import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Fault } from "../../proto/fault.ts";
import { inflateBody, isPlain } from "./inflate.ts";

function inflated(coding: string, body: Uint8Array, bytesMax: number): Promise<{ fault: string | undefined; body: Buffer }> {
  return new Promise((resolve) => {
    inflateBody(coding, body, bytesMax, (fault: Fault | undefined, bytes) =>
      resolve({ fault: fault?.kind.name, body: Buffer.from(bytes) }),
    );
  });
}

describe.each([
  ["gzip", gzipSync],
  ["deflate", deflateSync],
  ["br", brotliCompressSync],
  ["zstd", zstdCompressSync],
] as const)("%s", (coding, encode) => {
  test("gives back whatever was put in", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 5000 }), async (bytes) => {
        expect(await inflated(coding, encode(bytes), 1_000_000)).toEqual({ fault: undefined, body: Buffer.from(bytes) });
      }),
      { numRuns: 50 },
    );
  });

  test("answers anything with a fault from the list or a body, and never more than the limit", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 500 }), fc.nat(400), fc.nat(255), async (bytes, at, changed) => {
        const broken = Buffer.from(encode(bytes));
        broken[at % broken.length] = changed;
        const { fault, body } = await inflated(coding, broken.subarray(0, broken.length - (at % 3)), 1000);
        expect([undefined, "REQUEST_INVALID", "REQUEST_TOO_LARGE"]).toContain(fault);
        expect(body.length).toBeLessThanOrEqual(1000);
      }),
      { numRuns: 100 },
    );
  });

  test("stops at the limit", async () => {
    const body = encode(Buffer.alloc(10_001, "ab"));
    expect((await inflated(coding, body, 10_001)).fault).toBeUndefined();
    expect((await inflated(coding, body, 10_000)).fault).toBe("REQUEST_TOO_LARGE");
  });

  test("stops at a hundred times what was sent, once that is more than a little", async () => {
    // 60 KB of nothing shrinks more than a hundred times, and is harmless; 5 MB of it is not.
    const little = encode(Buffer.alloc(60_000));
    expect(little.length).toBeLessThan(600);
    expect((await inflated(coding, little, 10_000_000)).fault).toBeUndefined();
    const bomb = encode(Buffer.alloc(5_000_000));
    expect(bomb.length).toBeLessThan(50_000);
    expect((await inflated(coding, bomb, 10_000_000)).fault).toBe("REQUEST_TOO_LARGE");
  });

  test("does not take half a body", async () => {
    const body = encode(Buffer.from("a body that is cut off before its end"));
    expect((await inflated(coding, body.subarray(0, body.length - 5), 1000)).fault).toBe("REQUEST_INVALID");
  });
});

test("knows what is not encoded", () => {
  expect([undefined, "", "identity", " Identity "].map(isPlain)).toEqual([true, true, true, true]);
  expect(["gzip", "identity, gzip"].map(isPlain)).toEqual([false, false]);
});

test("takes one coding that it knows, and says what it saw otherwise", async () => {
  for (const coding of ["compress", "gzip,gzip", "identity, gzip", "*", "x".repeat(10_000)]) {
    expect((await inflated(coding, gzipSync("a"), 1000)).fault).toBe("ENCODING_UNSUPPORTED");
  }
});
