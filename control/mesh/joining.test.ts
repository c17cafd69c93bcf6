import { createHash, createPublicKey, generateKeyPairSync, type KeyObject, sign, verify, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { JoinRequestSchema, MeshService } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { SidecarService } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { joinProofBytes, keySigningBytes, readJoinToken } from "../../proto/mesh.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { LightSidecar } from "../../test/kit/lightSidecar.ts";
import { type RealControl, startRealControl, talkOver } from "../../test/kit/realControl.ts";
import { sha256 } from "../sha256.ts";
import { openAuthority, sidecarCertificateMs } from "./authority.ts";
import { identifyBy } from "./identity.ts";
import { type Joining, openJoining } from "./joining.ts";
import type { MeshPeer } from "./mesh.ts";
import { openPrivateFolder } from "./privateFolder.ts";
import { makeSigner, openSigner, rotateSigningKey } from "./signing.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "outrigger-join-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

interface KeyPair {
  readonly privateKey: KeyObject;
  readonly der: Uint8Array;
}

function makeKeys(type: "ed25519" | "ec" | "rsa" = "ed25519"): KeyPair {
  const { publicKey, privateKey } =
    type === "ec"
      ? generateKeyPairSync("ec", { namedCurve: "P-256" })
      : type === "rsa"
        ? generateKeyPairSync("rsa", { modulusLength: 2048 })
        : generateKeyPairSync("ed25519");
  return { privateKey, der: new Uint8Array(publicKey.export({ type: "spki", format: "der" })) };
}

function requestFor(token: string, keys: KeyPair, instance = "pod-1") {
  const hash = token === "" ? new Uint8Array() : createHash("sha256").update(token).digest();
  const algorithm = keys.privateKey.asymmetricKeyType === "ed25519" ? null : "sha256";
  const proof = new Uint8Array(sign(algorithm, joinProofBytes(hash, keys.der), keys.privateKey));
  return create(JoinRequestSchema, { token, publicKey: keys.der, proof, instance });
}

const nobody: MeshPeer = { address: "", certificate: () => undefined };
const showing = (certificate: Uint8Array | undefined): MeshPeer => ({ address: "", certificate: () => certificate });
const codeOf = (promise: Promise<unknown>): Promise<Code> => promise.then(() => 0 as Code).catch((error: ConnectError) => error.code);

describe("joining", () => {
  const clock = new ManualClock();
  async function open(): Promise<{ joining: Joining; authority: Awaited<ReturnType<typeof openAuthority>> }> {
    const privateFolder = openPrivateFolder(folder);
    const authority = await openAuthority(privateFolder, clock.wallMs());
    const randomBytes = (count: number): Uint8Array => crypto.getRandomValues(new Uint8Array(count));
    return { authority, joining: openJoining({ folder: privateFolder, authority, signer: makeSigner(), clock, randomBytes }) };
  }
  const tokenFrom = (joining: Joining, uses = 0, account = "chat"): string =>
    joining.createToken({ $typeName: "outrigger.policy.v1.CreateJoinTokenRequest", namespace: "shop", account, uses }).token;

  test.each(["ed25519", "ec"] as const)("a token buys an %s key an hour's certificate that names the account", async (type) => {
    const { joining, authority } = await open();
    const token = tokenFrom(joining);
    expect(readJoinToken(token)?.authoritySha256).toBe(authority.sha256);
    const keys = makeKeys(type);
    const joined = await joining.join(requestFor(token, keys), nobody);
    expect([joined.namespace, joined.account]).toEqual(["shop", "chat"]);
    const certificate = new X509Certificate(joined.certificates[0] ?? new Uint8Array());
    expect(certificate.subjectAltName).toBe("URI:spiffe://outrigger/ns/shop/sa/chat");
    expect(certificate.verify(new X509Certificate(joined.authority).publicKey)).toBe(true);
    expect(createPublicKey(keys.privateKey).equals(certificate.publicKey)).toBe(true);
    expect(certificate.ca).toBe(false);
    expect(joined.notAfter && timestampMs(joined.notAfter) - clock.wallMs()).toBeGreaterThan(sidecarCertificateMs - 1_000);
    const read = authority.read(joined.certificates[0] ?? new Uint8Array(), clock.wallMs());
    expect(read).toMatchObject({ namespace: "shop", account: "chat", instance: "pod-1" });
  });

  test("a token is good for so many keys; the same key again is no further use", async () => {
    const { joining } = await open();
    const token = tokenFrom(joining, 2);
    const first = makeKeys();
    for (const keys of [first, first, makeKeys()]) await joining.join(requestFor(token, keys), nobody);
    expect(await codeOf(joining.join(requestFor(token, makeKeys()), nobody))).toBe(Code.PermissionDenied);
    // Also after control has started again.
    expect(await codeOf((await open()).joining.join(requestFor(token, makeKeys()), nobody))).toBe(Code.PermissionDenied);
    await (await open()).joining.join(requestFor(token, first), nobody);
  });

  test.each<[string, (joining: Joining) => ReturnType<typeof requestFor>, Code]>([
    [
      "an unknown token",
      (joining) => requestFor(tokenFrom(joining).replace(/-1-./, "-1-0").replace(/.$/, "0"), makeKeys()),
      Code.Unauthenticated,
    ],
    ["text that is no token", () => requestFor("hello", makeKeys()), Code.Unauthenticated],
    [
      "a proof by another key",
      (joining) => ({ ...requestFor(tokenFrom(joining), makeKeys()), publicKey: makeKeys().der }),
      Code.InvalidArgument,
    ],
    [
      "a proof of another token",
      (joining) => ({ ...requestFor(tokenFrom(joining), makeKeys()), token: tokenFrom(joining) }),
      Code.InvalidArgument,
    ],
    ["an RSA key", (joining) => requestFor(tokenFrom(joining), makeKeys("rsa")), Code.InvalidArgument],
    [
      "a key that is none",
      (joining) => ({ ...requestFor(tokenFrom(joining), makeKeys()), publicKey: new Uint8Array(44) }),
      Code.InvalidArgument,
    ],
    [
      "an instance that would break out of the name",
      (joining) => requestFor(tokenFrom(joining), makeKeys(), "a/CN=b"),
      Code.InvalidArgument,
    ],
    ["neither token nor certificate", () => requestFor("", makeKeys()), Code.Unauthenticated],
  ])("%s is refused", async (_, request, code) => {
    const { joining } = await open();
    expect(await codeOf(joining.join(request(joining), nobody))).toBe(code);
  });

  test("a refused proof does not use the token up", async () => {
    const { joining } = await open();
    const token = tokenFrom(joining);
    await codeOf(joining.join({ ...requestFor(token, makeKeys()), publicKey: makeKeys().der }, nobody));
    await joining.join(requestFor(token, makeKeys()), nobody);
  });

  test("a token ends", async () => {
    const { joining } = await open();
    const token = tokenFrom(joining);
    clock.advance(60 * 60 * 1000 + 1);
    expect(await codeOf(joining.join(requestFor(token, makeKeys()), nobody))).toBe(Code.Unauthenticated);
  });

  test("a certificate renews itself for the same instance, until it ends", async () => {
    const { joining } = await open();
    const keys = makeKeys();
    const [certificate] = (await joining.join(requestFor(tokenFrom(joining), keys), nobody)).certificates;
    const renewed = await joining.join(requestFor("", makeKeys()), showing(certificate));
    expect(renewed.account).toBe("chat");
    expect(await codeOf(joining.join(requestFor("", keys, "pod-2"), showing(certificate)))).toBe(Code.PermissionDenied);
    clock.advance(sidecarCertificateMs + 1_000);
    expect(await codeOf(joining.join(requestFor("", keys), showing(certificate)))).toBe(Code.Unauthenticated);
  });

  /** Control was away for longer than certificates last: every sidecar would have been locked out for good. */
  test("a certificate that has ended is renewed for a day, to whoever has its key, and not after that", async () => {
    const { joining } = await open();
    const keys = makeKeys();
    const [certificate = new Uint8Array()] = (await joining.join(requestFor(tokenFrom(joining), keys), nobody)).certificates;
    const asking = (by: KeyPair, instance?: string) => joining.join({ ...requestFor("", by, instance), certificate }, nobody);
    clock.advance(sidecarCertificateMs + 23 * 60 * 60 * 1000);
    expect((await asking(keys)).account).toBe("chat");
    expect(await codeOf(asking(makeKeys()))).toBe(Code.Unauthenticated);
    expect(await codeOf(asking(keys, "pod-2"))).toBe(Code.PermissionDenied);
    clock.advance(60 * 60 * 1000 + 1_000);
    expect(await codeOf(asking(keys))).toBe(Code.Unauthenticated);
  });

  test("another control's certificate proves nothing", async () => {
    const { joining, authority } = await open();
    const [certificate] = (await joining.join(requestFor(tokenFrom(joining), makeKeys()), nobody)).certificates;
    rmSync(join(folder, "authority.pem"));
    const other = await open();
    expect(authority.read(certificate ?? new Uint8Array(), clock.wallMs())).toBeDefined();
    expect(other.authority.read(certificate ?? new Uint8Array(), clock.wallMs())).toBeUndefined();
    expect(await codeOf(other.joining.join(requestFor("", makeKeys()), showing(certificate)))).toBe(Code.Unauthenticated);
  });

  test("what is kept does not let its reader join, and only its owner can read it", async () => {
    const { joining } = await open();
    const token = tokenFrom(joining);
    const kept = readFileSync(join(folder, "join-tokens.json"), "utf8");
    expect(kept).toContain(sha256(token));
    expect(kept).not.toContain(readJoinToken(token)?.secret);
    for (const name of ["join-tokens.json", "authority.pem"]) expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
  });

  test.each(["authority.pem", "join-tokens.json", "signing-keys.json"])(
    "a broken %s is told by its path, and not replaced",
    async (name) => {
      await open();
      openSigner(openPrivateFolder(folder));
      writeFileSync(join(folder, name), "broken");
      const opening = async (): Promise<unknown> => [await open(), openSigner(openPrivateFolder(folder))];
      await expect(opening()).rejects.toThrow(join(folder, name));
      expect(readFileSync(join(folder, name), "utf8")).toBe("broken");
    },
  );

  test("a token opens streams itself, where no certificate can be shown", async () => {
    const { joining, authority } = await open();
    const identify = identifyBy({ authority, joining, clock, serviceAccounts: undefined });
    const token = tokenFrom(joining);
    const opening = new LightSidecar("pod-1", "chat", "shop").opening();
    for (let again = 0; again < 3; again++) {
      expect(await identify(opening, token, nobody)).toMatchObject({ namespace: "shop", account: "chat", instance: undefined });
    }
    const other = new LightSidecar("pod-2", "chat", "shop").opening();
    expect(await codeOf(identify(other, token, nobody))).toBe(Code.PermissionDenied);
    expect(await codeOf(identify(opening, "", nobody))).toBe(Code.Unauthenticated);
    expect(await codeOf(identify(opening, "e30.e30.e30", nobody))).toBe(Code.Unauthenticated);
  });
});

describe("signing keys", () => {
  test("are made once, and a new one is endorsed by the one before", () => {
    const privateFolder = openPrivateFolder(folder);
    const first = openSigner(privateFolder);
    expect(openSigner(privateFolder).keyId).toBe(first.keyId);
    const second = rotateSigningKey(privateFolder);
    expect(second.keyId).not.toBe(first.keyId);
    expect(openSigner(privateFolder).keys).toEqual(second.keys);
    const [fresh, old] = second.keys;
    expect(fresh?.endorsedBy).toBe(old?.id);
    const spki = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), old?.publicKey ?? new Uint8Array()]);
    const oldKey = createPublicKey({ key: spki, format: "der", type: "spki" });
    const endorsed = keySigningBytes(fresh?.publicKey ?? new Uint8Array());
    expect(verify(null, endorsed, oldKey, fresh?.endorsement ?? new Uint8Array())).toBe(true);
  });
});

describe("over real connections", () => {
  let control: RealControl;
  beforeEach(async () => {
    control = await startRealControl({ dataFolder: folder, tlsHosts: ["127.0.0.1"] });
  });
  afterEach(() => control.close());

  test("a sidecar joins, pins what the token says, subscribes with its certificate, and is listed", async () => {
    const { token } = await createClient(SidecarService, control.asEditor()).createJoinToken({ namespace: "default", account: "chat" });
    const keys = makeKeys("ec");
    const joined = await createClient(MeshService, control.transport()).join(requestFor(token, keys));
    expect(sha256(joined.authority)).toBe(readJoinToken(token)?.authoritySha256);
    const [signingKey] = joined.signingKeys;
    expect(sha256(signingKey?.publicKey ?? new Uint8Array())).toBe(readJoinToken(token)?.signingKeySha256);

    const pem = (der: Uint8Array | undefined): string =>
      `-----BEGIN CERTIFICATE-----\n${Buffer.from(der ?? [])
        .toString("base64")
        .replaceAll(/.{64}/g, "$&\n")}\n-----END CERTIFICATE-----\n`;
    const identity = { cert: pem(joined.certificates[0]), key: keys.privateKey.export({ type: "pkcs8", format: "pem" }).toString() };
    const sidecar = new LightSidecar("pod-1");
    const talking = talkOver(createClient(MeshService, control.transport(identity)), sidecar, sidecar.opening());
    await talking.until(() => sidecar.root !== "");
    const { sidecars, total, current } = await createClient(SidecarService, control.asEditor()).listSidecars({});
    expect([total, current]).toEqual([1, 1]);
    expect(sidecars[0]).toMatchObject({ instance: "pod-1", namespace: "default", account: "chat", connected: true, root: sidecar.root });
    await talking.stop();

    // Without the certificate, or as another account, it is nobody.
    const stranger = talkOver(createClient(MeshService, control.transport()), sidecar, sidecar.opening());
    expect((await stranger.ended)?.code).toBe(Code.Unauthenticated);
    const liar = new LightSidecar("pod-1", "batch");
    const lying = talkOver(createClient(MeshService, control.transport(identity)), liar, liar.opening());
    expect((await lying.ended)?.code).toBe(Code.PermissionDenied);
  });

  test("a sidecar that polls gets the same", async () => {
    const { token } = await createClient(SidecarService, control.asEditor()).createJoinToken({ namespace: "default", account: "chat" });
    const client = createClient(MeshService, control.transport());
    const sidecar = new LightSidecar("pod-1");
    let messages = [create(control.requestSchema, { message: { case: "opening", value: sidecar.opening({ credential: token }) } })];
    let session = "";
    while (sidecar.root === "") {
      const answer = await client.poll({ session, messages, wait: { seconds: 5n } });
      session = answer.session;
      for (const message of answer.messages) sidecar.hear(message);
      messages = sidecar.say();
    }
    await client.poll({ session, messages });
    const { sidecars } = await createClient(SidecarService, control.asEditor()).listSidecars({});
    expect(sidecars[0]).toMatchObject({ instance: "pod-1", connected: true, root: sidecar.root });
    expect(await codeOf(client.poll({ session: "unknown" }))).toBe(Code.NotFound);
    expect(await codeOf(client.poll({}))).toBe(Code.InvalidArgument);
  });

  test("the services for people want a token of theirs", async () => {
    const client = createClient(SidecarService, control.transport());
    expect(await codeOf(client.createJoinToken({ namespace: "default", account: "chat" }))).toBe(Code.Unauthenticated);
    expect(await codeOf(client.listSidecars({}))).toBe(Code.Unauthenticated);
  });

  test("whoever does not trust its authority does not speak to it", async () => {
    const stranger = createClient(MeshService, createGrpcTransport({ baseUrl: control.address }));
    await expect(stranger.poll({})).rejects.toThrow(/certificate/);
  });
});
