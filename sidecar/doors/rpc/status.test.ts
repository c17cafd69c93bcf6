import { create, fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { codeToHttpStatus, codeToString, errorFromJson } from "@connectrpc/connect/protocol-connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Fault, FaultReason, faultKinds, GrpcCode, type GrpcCodeName } from "../../../proto/fault.ts";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  QuotaFailureSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "../../../proto/gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../../../proto/gen/google/rpc/status_pb.ts";
import { connectCode, connectEndJson, connectErrorJson, connectHttpStatus, faultTrailers, percentEncode, upTo } from "./status.ts";

const full = new Fault(FaultReason.PROVIDER_RATE_LIMITED, "Zu schnell: 100 % – später!", {
  field: "chat.model",
  violations: [{ field: "chat.model", message: "must wait" }],
  facts: { provider: "main", status: "429" },
  retryAfterMs: 1_250,
});

function headersOf(flat: readonly string[]): Headers {
  const headers = new Headers();
  for (let index = 0; index < flat.length; index += 2) headers.append(flat[index] ?? "", flat[index + 1] ?? "");
  return headers;
}

function checkDetails(error: ConnectError): void {
  expect(error.findDetails(ErrorInfoSchema)).toEqual([
    create(ErrorInfoSchema, {
      reason: "PROVIDER_RATE_LIMITED",
      domain: "outrigger.dev",
      metadata: { provider: "main", status: "429" },
    }),
  ]);
  expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations[0]).toMatchObject({ field: "chat.model", description: "must wait" });
  expect(error.findDetails(RetryInfoSchema)[0]?.retryDelay).toMatchObject({ seconds: 1n, nanos: 250_000_000 });
  expect(error.findDetails(QuotaFailureSchema)[0]?.violations[0]?.subject).toBe("provider:main");
  expect(error.findDetails(RequestInfoSchema)[0]?.requestId).toBe("r-1");
}

describe("faultTrailers", () => {
  test("tell Connect's own client the whole fault", () => {
    const error = findTrailerError(headersOf(faultTrailers(full, "r-1")));
    if (error === undefined) throw new Error("the trailers should hold an error");
    expect(error.code).toBe(Code.ResourceExhausted);
    expect(error.rawMessage).toBe(full.message);
    checkDetails(error);
  });

  test("stay far below the limits of header blocks, whatever a fault says", () => {
    const long = "漢".repeat(5_000);
    const fault = new Fault(FaultReason.REQUEST_INVALID, long, {
      violations: Array.from({ length: 100 }, (_, index) => ({ field: `chat.messages[${index}]`, message: "must be a role" })),
      facts: Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`fact_${index}`, "x".repeat(100)])),
    });
    const trailers = faultTrailers(fault, "r-1");
    expect(trailers.join("").length).toBeLessThan(8_192);
    const status = fromBinary(StatusSchema, Buffer.from(trailers[5] ?? "", "base64"));
    expect(status.message.endsWith("…")).toBe(true);
    expect(decodeURIComponent(trailers[3] ?? "")).toBe(status.message);
    const violations = status.details.map((any) => anyUnpack(any, BadRequestSchema)).find((found) => found !== undefined);
    expect(violations?.fieldViolations.length).toBeGreaterThan(5);
    const info = status.details.map((any) => anyUnpack(any, ErrorInfoSchema)).find((found) => found !== undefined);
    expect(Object.keys(info?.metadata ?? {}).length).toBeGreaterThan(5);
  });
});

describe("Connect's JSON", () => {
  test("tells Connect's own client the whole fault", () => {
    const error = errorFromJson(JSON.parse(connectErrorJson(full, "r-1")), undefined, new ConnectError("fallback"));
    expect(error.code).toBe(Code.ResourceExhausted);
    expect(error.rawMessage).toBe(full.message);
    checkDetails(error);
    expect(JSON.parse(connectEndJson(full, "r-1"))).toEqual({ error: JSON.parse(connectErrorJson(full, "r-1")) });
    expect(connectEndJson(undefined, "r-1")).toBe("{}");
  });

  test("has the codes and HTTP statuses of Connect's protocol, for every code", () => {
    for (const name of Object.keys(GrpcCode) as GrpcCodeName[]) {
      expect(connectCode(name)).toBe(codeToString(GrpcCode[name]));
      expect(connectHttpStatus(name)).toBe(codeToHttpStatus(GrpcCode[name]));
    }
  });
});

test("every reason makes a status that can be read back", () => {
  for (const [reason, kind] of Object.entries(faultKinds)) {
    const fault = new Fault(Number(reason) as keyof typeof faultKinds, "Something happened.");
    const error = findTrailerError(headersOf(faultTrailers(fault, "")));
    expect(error?.code).toBe(GrpcCode[kind.code]);
    expect(error?.findDetails(ErrorInfoSchema)[0]?.reason).toBe(kind.name);
  }
});

test("upTo keeps whole characters within its bytes", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), fc.integer({ min: 4, max: 40 }), (text, bytesMax) => {
      const cut = upTo(bytesMax, text);
      const fits = Buffer.byteLength(text) <= bytesMax;
      expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(bytesMax);
      expect(cut === text || (cut.endsWith("…") && text.startsWith(cut.slice(0, -1)))).toBe(true);
      expect(cut === text).toBe(fits);
    }),
  );
});

test("percentEncode keeps what a header may hold and is undone by decoding", () => {
  expect(percentEncode("plain: text, 5 ~ {}")).toBe("plain: text, 5 ~ {}");
  expect(percentEncode("100 %\n")).toBe("100 %25%0A");
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const encoded = percentEncode(text);
      expect(encoded).toMatch(/^[\x20-\x7e]*$/);
      expect(decodeURIComponent(encoded)).toBe(text);
    }),
  );
});
