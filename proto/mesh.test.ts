import { expect, test } from "vitest";
import { joinProofBytes, joinTokenText, readJoinToken, rootSigningBytes, scopeOf } from "./mesh.ts";

const digits = (digit: string): string => digit.repeat(64);

test("a scope names namespace, account and level", () => {
  expect(scopeOf({ namespace: "default", account: "chat", capabilityLevel: 2 })).toBe("default/chat@2");
});

test("what is signed begins with a line that nothing else begins with", () => {
  expect(Buffer.from(rootSigningBytes(Uint8Array.of(1, 2))).toString("latin1")).toBe("outrigger root 1\n\u0001\u0002");
  expect(Buffer.from(joinProofBytes(Uint8Array.of(1), Uint8Array.of(2))).toString("latin1")).toBe("outrigger join 1\n\u0001\u0002");
});

test("a join token is read back, and nothing else is read as one", () => {
  const token = { secret: digits("1"), authoritySha256: digits("a"), signingKeySha256: digits("f"), namespace: "shop", account: "chat.v2" };
  const text = joinTokenText(token);
  expect(readJoinToken(text)).toEqual(token);
  const others = [
    "",
    text.slice(1),
    text.slice(0, text.indexOf("/")),
    `${text}/a`,
    `${text} `,
    text.toUpperCase(),
    text.replace("-1-", "-2-"),
  ];
  for (const other of others) {
    expect(readJoinToken(other)).toBeUndefined();
  }
});
