import { describe, expect, test } from "vitest";
import { hpkePrimitives } from "../sidecar/io/keys.ts";
import { aes256Gcm, openBase, sealBase } from "./hpke.ts";

const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));
const hex = (data: Uint8Array): string => Buffer.from(data).toString("hex");

/** RFC 9180, appendix A.1.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM, base mode, sequence number 0. */
const example = {
  info: bytes("4f6465206f6e2061204772656369616e2055726e"),
  ephemeral: {
    publicKey: bytes("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"),
    privateKey: bytes("52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736"),
  },
  recipient: {
    publicKey: bytes("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d"),
    privateKey: bytes("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8"),
  },
  text: bytes("4265617574792069732074727574682c20747275746820626561757479"),
  aad: bytes("436f756e742d30"),
  sealed: "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a",
};
const aes128Gcm = { id: 1, keyBytes: 16 };

describe("the example of RFC 9180, A.1.1", () => {
  const { info, aad, ephemeral, recipient, text, sealed } = example;
  test("is sealed to the same bytes", () => {
    expect(hex(sealBase(text, recipient.publicKey, ephemeral, { info, aad }, hpkePrimitives, aes128Gcm))).toBe(sealed);
  });
  test("is opened", () => {
    expect(hex(openBase(bytes(sealed), ephemeral.publicKey, recipient, { info, aad }, hpkePrimitives, aes128Gcm))).toBe(hex(text));
  });
});

describe("with AES-256-GCM", () => {
  const { info, aad, ephemeral, recipient, text } = example;
  const sealed = sealBase(text, recipient.publicKey, ephemeral, { info, aad }, hpkePrimitives);

  test("what was sealed is opened", () => {
    expect(aes256Gcm).toEqual({ id: 2, keyBytes: 32 });
    expect(hex(openBase(sealed, ephemeral.publicKey, recipient, { info, aad }, hpkePrimitives))).toBe(hex(text));
  });

  test.each([
    ["another scope or root", { info: Uint8Array.of(...info, 1), aad }],
    ["another name", { info, aad: bytes("00") }],
  ])("nothing is opened that was bound to %s", (_, bound) => {
    expect(() => openBase(sealed, ephemeral.publicKey, recipient, bound, hpkePrimitives)).toThrow();
  });

  test("nothing is opened for another key", () => {
    expect(() => openBase(sealed, ephemeral.publicKey, ephemeral, { info, aad }, hpkePrimitives)).toThrow();
  });

  test("nothing is opened of which a byte has changed, and nothing that is too short", () => {
    for (let at = 0; at < sealed.length; at++) {
      const changed = sealed.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(() => openBase(changed, ephemeral.publicKey, recipient, { info, aad }, hpkePrimitives)).toThrow();
      expect(() => openBase(sealed.slice(0, at), ephemeral.publicKey, recipient, { info, aad }, hpkePrimitives)).toThrow();
    }
  });

  test("a key of no use, by which everybody would agree on zero, is refused (RFC 7748, section 6.1)", () => {
    expect(() => openBase(sealed, new Uint8Array(32), recipient, { info, aad }, hpkePrimitives)).toThrow();
  });
});
