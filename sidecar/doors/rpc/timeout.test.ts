import { describe, expect, test } from "vitest";
import { Fault } from "../../../proto/fault.ts";
import { connectTimeoutMs, grpcTimeoutMs } from "./timeout.ts";

describe("grpcTimeoutMs", () => {
  test.each([
    ["1H", 3_600_000],
    ["2M", 120_000],
    ["3S", 3_000],
    ["4m", 4],
    ["5u", 0.005],
    ["6n", 0.000006],
    ["0S", 0],
    ["99999999H", 99_999_999 * 3_600_000],
  ])("reads %s", (value, expected) => {
    expect(grpcTimeoutMs(value)).toBeCloseTo(expected, 9);
  });

  test.each(["", "S", "1", "1s", "1h", "123456789S", "-1S", "1.5S", " 1S", "1S ", "1S\n", "0x1S", "1SS"])("refuses %j", (value) => {
    expect(() => grpcTimeoutMs(value)).toThrow(Fault);
  });

  test("waits without end where nothing is said", () => {
    expect(grpcTimeoutMs(undefined)).toBe(Number.POSITIVE_INFINITY);
    expect(connectTimeoutMs(undefined)).toBe(Number.POSITIVE_INFINITY);
  });
});

describe("connectTimeoutMs", () => {
  test.each([
    ["0", 0],
    ["1500", 1_500],
    ["9999999999", 9_999_999_999],
  ])("reads %s", (value, expected) => {
    expect(connectTimeoutMs(value)).toBe(expected);
  });

  test.each(["", "12345678901", "-1", "1.5", "1e3", "1m", " 1", "1\n"])("refuses %j, and names the header", (value) => {
    expect(() => connectTimeoutMs(value)).toThrow("connect-timeout-ms");
  });
});
