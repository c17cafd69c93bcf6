import { beforeEach, describe, expect, test } from "vitest";
import { BootSource } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import type { Problem, Resource } from "../../proto/resources.ts";
import { rootOf, snapshotOf } from "../../proto/snapshot.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import {
  heard,
  Lines,
  type Published,
  publish,
  quietParts,
  type Say,
  Signer,
  SlotsInMemory,
  says,
  sha256,
} from "../../test/kit/meshControl.ts";
import { consumerOf, routeOf } from "../../test/kit/policy.ts";
import type { Offer, Outcome } from "../policy/watch.ts";
import { type MeshClient, type MeshParts, openMesh } from "./client.ts";

const route = (name: string, model = "m"): Resource => routeOf(name, { match: { models: [name] }, targets: [{ provider: "p", model }] });
const first = publish([route("a"), route("b")], 1);
const second = publish([route("a", "other"), route("c")], 2);

let clock: ManualClock;
let lines: Lines;
let signer: Signer;
let offered: Offer[];

beforeEach(() => {
  clock = new ManualClock();
  lines = new Lines(clock);
  signer = new Signer("k1", clock);
  offered = [];
});

/** A client that has been greeted. `words` are said after the hello. */
function connect(more: Partial<MeshParts> = {}, ...words: readonly Say[]): MeshClient {
  const parts = quietParts(clock, lines.dial);
  const client = openMesh({
    ...parts,
    offer: (offer, later) => {
      offered.push(offer);
      return parts.offer(offer, later);
    },
    ...more,
  });
  lines.last.say(says.hello(signer), ...words);
  return client;
}

const delta = (from: Published | undefined, to: Published): Say => says.delta(from?.snapshot, to, signer.root(to));

describe("the stream", () => {
  test("begins with who the sidecar is and what it holds", () => {
    connect({ credential: () => "token" });
    expect(lines.last.heard[0]).toMatchObject({
      case: "opening",
      value: {
        credential: "token",
        instance: "pod-1",
        account: "chat",
        namespace: "default",
        capabilityLevel: 2,
        appliedRoot: "",
        diskRoot: "",
      },
    });
  });

  test("names the root that holds when it comes back", () => {
    connect({}, delta(undefined, first));
    lines.last.end();
    clock.advance(1000);
    expect(heard(lines.last, "opening")[0]).toMatchObject({
      appliedRoot: first.snapshot.root,
      appliedRevision: 1n,
      bootedFrom: BootSource.CONTROL,
    });
  });

  test("is left and dialled anew if control says something before it says who it is", () => {
    openMesh(quietParts(clock, lines.dial));
    lines.last.say(delta(undefined, first));
    expect(lines.last.left).toBe(true);
    clock.advance(1000);
    expect(lines.lines).toHaveLength(2);
  });

  // A sidecar that nobody had let in logged that it had lost control, and that what it did not have went on to hold.
  test("is missed in other words before the first than when it was lost", () => {
    const notes: string[] = [];
    const note = (_: unknown, message: string): void => void notes.push(message);
    openMesh({ ...quietParts(clock, lines.dial), note });
    lines.last.end();
    expect(notes).toEqual(["no stream to control yet"]);
    clock.advance(1000);
    lines.last.say(says.hello(signer));
    lines.last.end();
    expect(notes.slice(1)).toEqual(["connected to control", "lost control; what holds goes on to hold"]);
  });

  test("is left if control takes the sidecar for another", () => {
    const client = openMesh(quietParts(clock, lines.dial));
    lines.last.say(says.hello(signer, { scope: "default/other@2" }));
    expect(lines.last.left).toBe(true);
    expect(client.status().waitingFor).toContain("default/other@2");
  });

  test("that was accepted and is silent is left after 15 s, and not a moment before", () => {
    connect({}, delta(undefined, first), says.heartbeat(first, 1));
    clock.advance(14_999);
    expect(lines.last.left).toBe(false);
    clock.advance(1);
    expect(lines.last.left).toBe(true);
    clock.advance(30_000);
    expect(lines.lines.length).toBeGreaterThan(1);
  });

  test("that never says a word is left after 15 s, too", () => {
    openMesh(quietParts(clock, lines.dial));
    clock.advance(15_000);
    expect(lines.lines[0]?.left).toBe(true);
  });

  test("stays while heartbeats come", () => {
    connect({}, delta(undefined, first));
    for (let beat = 1; beat <= 100; beat++) {
      lines.last.say(says.heartbeat(first, beat));
      clock.advance(14_000);
    }
    expect(lines.lines).toHaveLength(1);
  });

  test("is left when a heartbeat is missing in the count", () => {
    connect({}, says.heartbeat(first, 1), says.heartbeat(first, 3));
    expect(lines.last.left).toBe(true);
  });

  test("is left when heartbeats name a root that never comes", () => {
    connect({}, delta(undefined, first));
    for (let beat = 1; beat <= 12; beat++) {
      clock.advance(5000);
      lines.last.say(says.heartbeat(second, beat));
    }
    expect(lines.last.left).toBe(false);
    lines.last.say(says.heartbeat(second, 13));
    expect(lines.last.left).toBe(true);
  });

  test.each([
    [0, 27 * 60_000],
    [0.999999, 33 * 60_000],
  ])("lives half an hour, give or take a tenth", (chance, lifeMs) => {
    connect({ random: { next: () => chance } }, delta(undefined, first));
    let beat = 0;
    while (!lines.lines[0]?.left) {
      lines.last.say(says.heartbeat(first, ++beat));
      clock.advance(1000);
    }
    expect(beat * 1000).toBeGreaterThanOrEqual(lifeMs - 1000);
    expect(beat * 1000).toBeLessThanOrEqual(lifeMs + 1000);
  });

  test("is left within the time over which control spreads its sidecars, each at its own moment", () => {
    connect({ random: { next: () => 0.25 } }, { case: "goaway", value: { spread: { seconds: 8n, nanos: 0 }, reason: "restart" } });
    clock.advance(1999);
    expect(lines.last.left).toBe(false);
    clock.advance(1);
    expect(lines.last.left).toBe(true);
    clock.advance(250);
    expect(lines.lines).toHaveLength(2);
  });

  test("a fresh credential is sent before the old one ends", () => {
    let credential = "one";
    const parts = quietParts(clock, lines.dial);
    openMesh({ ...parts, credential: () => credential });
    lines.last.say(says.hello(signer, { credentialEndsMs: clock.wallMs() + 600_000, heartbeatMs: 20_000 }), delta(undefined, first));
    const beatUntil = (ms: number) => {
      for (let passed = 0; passed < ms; passed += 10_000) {
        lines.last.say(says.heartbeat(first, ++beat));
        clock.advance(10_000);
      }
    };
    let beat = 0;
    beatUntil(500_000);
    expect(heard(lines.last, "reauth")).toEqual([]);
    credential = "two";
    beatUntil(60_000);
    expect(heard(lines.last, "reauth")).toMatchObject([{ credential: "two" }]);
  });

  test("ends with a farewell, which is over when control has ended the stream, and is followed by no other stream", async () => {
    const client = connect({}, delta(undefined, first));
    let over = false;
    const parted = client.farewell().then(() => {
      over = true;
    });
    expect(lines.last.heard.at(-1)?.case).toBe("leaving");
    await new Promise(setImmediate);
    expect(over).toBe(false);
    lines.last.end();
    await parted;
    clock.advance(60_000);
    expect(lines.lines).toHaveLength(1);
    await client.close();
    expect(clock.waiting).toBe(0);
  });

  test("a control that says nothing to a farewell is waited for a second, and one that is away not at all", async () => {
    const client = connect({}, delta(undefined, first));
    const parted = client.farewell();
    clock.advance(1_000);
    await parted;
    await client.close();
    const away = connect();
    lines.last.end();
    await away.farewell();
    clock.advance(60_000);
    expect(heard(lines.last, "leaving")).toEqual([]);
    expect(lines.lines).toHaveLength(2);
    await away.close();
    expect(clock.waiting).toBe(0);
  });

  test("nothing waits any more once the client is closed", async () => {
    const client = connect({}, delta(undefined, first));
    await client.close();
    expect(clock.waiting).toBe(0);
    expect(lines.last.left).toBe(true);
  });
});

describe("a root", () => {
  test("is offered whole, holds, and is acknowledged after that with the time it took", () => {
    let holds = "";
    const parts = quietParts(clock, lines.dial);
    connect({
      offer: (offer, later) => {
        expect(heard(lines.last, "ack")).toEqual([]);
        clock.advance(3);
        holds = offer.root;
        offered.push(offer);
        return parts.offer(offer, later);
      },
    });
    lines.last.say(delta(undefined, first));
    expect(holds).toBe(first.snapshot.root);
    expect(offered[0]?.resources.routes.map((one) => one.metadata?.name)).toEqual(["a", "b"]);
    expect(heard(lines.last, "ack")).toMatchObject([{ root: first.snapshot.root, revision: 1n, applyUs: 3000n }]);
  });

  test("comes as a difference to the one before", () => {
    connect({}, delta(undefined, first), delta(first, second));
    expect(offered.map(({ root }) => root)).toEqual([first.snapshot.root, second.snapshot.root]);
    expect(offered[1]?.resources.routes.map((one) => one.metadata?.name)).toEqual(["a", "c"]);
  });

  test.each([false, true])("comes in pieces, compressed: %s", (gzip) => {
    connect({}, ...says.chunkedDelta(undefined, first, signer.root(first), gzip, 7));
    expect(heard(lines.last, "ack")).toMatchObject([{ root: first.snapshot.root }]);
  });

  test("comes as a list of hashes, of which only the missing ones are asked for", () => {
    const client = connect({}, delta(undefined, first));
    const third = publish([route("a"), route("z")], 3);
    lines.last.say(says.manifest(third, signer.root(third)));
    const [want] = heard(lines.last, "want");
    expect(want?.hashes).toHaveLength(1);
    lines.last.say(...says.wanted(third.snapshot, want?.hashes ?? [], 9));
    expect(heard(lines.last, "ack").map(({ root }) => root)).toEqual([first.snapshot.root, third.snapshot.root]);
    expect(client.status().received).toEqual({ roots: 2, wanted: 1 });
  });

  test("whose resources are all held already is not asked for at all", () => {
    const slots = new SlotsInMemory([{ held: signer.held(first), confirmedMs: clock.wallMs() }]);
    connect({ slots }, says.manifest(first, signer.root(first)));
    expect(heard(lines.last, "want")).toEqual([]);
    expect(heard(lines.last, "ack")).toHaveLength(1);
  });

  test("whose base is not held is asked for as a list", () => {
    connect({}, delta(second, first));
    expect(heard(lines.last, "want")).toMatchObject([{ root: first.snapshot.root, hashes: [] }]);
    lines.last.say(says.manifest(first, signer.root(first)));
    const hashes = heard(lines.last, "want")[1]?.hashes ?? [];
    lines.last.say(...says.wanted(first.snapshot, hashes));
    expect(heard(lines.last, "ack")).toMatchObject([{ root: first.snapshot.root }]);
  });

  test("that is announced while another one's pieces come takes its place", () => {
    const [announcement, ...pieces] = says.chunkedDelta(undefined, first, signer.root(first), false, 20);
    if (announcement === undefined) throw new Error("it was announced");
    connect({}, announcement, ...pieces.slice(0, 2), delta(undefined, second), ...pieces.slice(2));
    expect(offered.map(({ root }) => root)).toEqual([second.snapshot.root]);
  });

  test("that is refused is answered with every problem, and what held holds on", () => {
    const problems = ["x", "y[1].z"].map((field) => ({ ...errorOf(`${field} is wrong.`), kind: "ModelRoute", name: "default/a", field }));
    const client = connect({ check: () => (offered.length > 0 ? problems : []) });
    lines.last.say(delta(undefined, first), delta(first, second));
    expect(heard(lines.last, "nack")).toMatchObject([
      {
        refusedRoot: second.snapshot.root,
        refusedRevision: 2n,
        keptRoot: first.snapshot.root,
        problems: [{ field: "x", kind: "ModelRoute", name: "default/a", message: "x is wrong." }, { field: "y[1].z" }],
      },
    ]);
    expect(client.status().root).toBe(first.snapshot.root);
  });

  test("that was refused and holds later after all is acknowledged then", () => {
    let later: ((outcome: Outcome) => void) | undefined;
    connect({
      offer: (offer, then) => {
        later = then;
        return { applied: false, root: offer.root, problems: [], tookMs: 1 };
      },
    });
    lines.last.say(delta(undefined, first));
    expect(heard(lines.last, "ack")).toEqual([]);
    later?.({ applied: true, root: first.snapshot.root, changed: true, warnings: [], tookMs: 1 });
    expect(heard(lines.last, "ack")).toMatchObject([{ root: first.snapshot.root }]);
  });

  test("with a resource that this build cannot read is refused by that resource's name", () => {
    const bad = publish([consumerOf("me", {})], 1);
    const entries = bad.snapshot.entries.map((entry) => ({ ...entry, name: "default/you" }));
    connect({}, delta(undefined, { revision: 1, snapshot: { root: rootOf(entries, sha256), entries } }));
    expect(heard(lines.last, "nack")[0]?.problems).toMatchObject([{ kind: "Consumer", name: "default/you" }]);
  });

  test("is kept on the disk once it holds, and never before", () => {
    const slots = new SlotsInMemory();
    connect({ slots, check: ({ routes }) => (routes.some((one) => one.metadata?.name === "c") ? [errorOf("no")] : []) });
    lines.last.say(delta(undefined, first), delta(first, second));
    expect(slots.kept.map(({ held }) => held.root)).toEqual([first.snapshot.root]);
  });

  test("of which only the statement is new holds without being offered again", () => {
    connect({}, delta(undefined, first), says.delta(first.snapshot, { ...first, revision: 7 }, signer.root({ ...first, revision: 7 })));
    expect(offered).toHaveLength(1);
    expect(heard(lines.last, "ack")).toMatchObject([{ revision: 1n }, { revision: 7n }]);
  });

  test("that is refused and then no longer wanted is let go, so that it cannot take hold later", () => {
    const parts = quietParts(clock, lines.dial);
    const client = connect({
      offer: (offer, later) => {
        offered.push(offer);
        return offer.root === second.snapshot.root
          ? { applied: false, root: offer.root, problems: [], tookMs: 0 }
          : parts.offer(offer, later);
      },
    });
    lines.last.say(delta(undefined, first), delta(first, second), says.heartbeat(second, 1));
    expect(offered.map(({ root }) => root)).toEqual([first.snapshot.root, second.snapshot.root]);
    // Control goes back to what holds, and says so by heartbeats alone. Offering that again ends every further attempt at the other.
    lines.last.say(says.heartbeat(first, 2), says.heartbeat(first, 3));
    expect(offered.slice(2).map(({ root }) => root)).toEqual([first.snapshot.root]);
    expect(client.status().root).toBe(first.snapshot.root);
  });

  test("that is only to be tried is compiled and does not hold", () => {
    const tried: string[] = [];
    const client = connect({
      trial: ({ root }) => {
        tried.push(root);
        return [errorOf("no")];
      },
    });
    lines.last.say(delta(undefined, first), says.delta(first.snapshot, second, signer.root(second), "trial"));
    expect(tried).toEqual([second.snapshot.root]);
    expect(heard(lines.last, "trialResult")).toMatchObject([{ root: second.snapshot.root, problems: [{ message: "no" }] }]);
    expect(heard(lines.last, "nack")).toEqual([]);
    expect(client.status().root).toBe(first.snapshot.root);
  });
});

describe("nobody is believed", () => {
  const refusedWith = (word: string): void => {
    const nacks = heard(lines.last, "nack");
    expect(nacks).toHaveLength(1);
    expect(nacks[0]?.problems[0]?.message).toContain(word);
    expect(offered).toEqual([]);
  };

  test("whose signature is wrong", () => {
    const signed = signer.root(first);
    signed.signature[3] = (signed.signature[3] ?? 0) ^ 1;
    connect({}, says.delta(undefined, first, signed));
    refusedWith("signature");
  });

  test("who signs nothing", () => {
    const signed = signer.root(first);
    connect({}, says.delta(undefined, first, { ...signed, signature: new Uint8Array() }));
    refusedWith("signature");
  });

  test("whose statement was changed after it was signed", () => {
    const signed = signer.root(first);
    connect({}, says.delta(undefined, first, { ...signed, statement: signer.root({ ...first, revision: 9 }).statement }));
    refusedWith("signature");
  });

  test("who signs with a key that is not trusted, named like one that is or not", () => {
    const stranger = new Signer("k1", clock);
    connect({}, says.delta(undefined, first, stranger.root(first)));
    refusedWith("signature");
  });

  test("whose key this sidecar never heard of", () => {
    connect({ keys: new Map([["k0", new Signer("k0", clock).key()]]) }, delta(undefined, first));
    refusedWith("does not trust");
  });

  test("who sends what is for another scope", () => {
    connect({}, says.delta(undefined, first, signer.root(first, { scope: "default/other@2" })));
    refusedWith("default/other@2");
  });

  test("who sends what is too old to begin with", () => {
    connect({}, says.delta(undefined, first, signer.root(first, { lifeMs: -1 })));
    refusedWith("too old");
  });

  test("who sends an older revision than the one that holds, unless it is signed as a step back", () => {
    const client = connect({}, delta(undefined, second));
    lines.last.say(says.delta(undefined, first, signer.root(first)));
    expect(heard(lines.last, "nack")[0]?.problems[0]?.message).toContain("step back");
    expect(client.status().root).toBe(second.snapshot.root);
    lines.last.say(says.delta(undefined, first, signer.root(first, { rollback: true })));
    expect(client.status().root).toBe(first.snapshot.root);
  });

  test("who sends an older revision than the one on the disk", () => {
    const slots = new SlotsInMemory([{ held: signer.held(second), confirmedMs: clock.wallMs() }]);
    connect({ slots }, delta(undefined, first));
    refusedWith("step back");
  });

  test("who sends other resources than the root that was signed", () => {
    connect({}, says.delta(undefined, second, signer.root(first)));
    expect(offered).toEqual([]);
    expect(lines.last.left).toBe(true);
  });

  /** The promise to whoever fears for the store, the network or a replica: a snapshot that was tampered with is never taken. */
  test("whoever changes any byte of what was signed; and of what was sent, only what was signed is ever offered", () => {
    const signed = signer.root(first);
    const message = says.delta(undefined, first, signed);
    if (message.case !== "delta") throw new Error("a delta is one");
    const content = message.value.content ?? new Uint8Array();
    let harmless = 0;
    for (const bytes of [signed.statement, signed.signature, content]) {
      for (let at = 0; at < bytes.length; at++) {
        const before = bytes[at] ?? 0;
        bytes[at] = before ^ 1;
        lines = new Lines(clock);
        offered = [];
        const client = connect({}, message);
        // Some bits around resources mean nothing to whoever reads: then what comes out is what was signed.
        if (bytes === content) harmless += offered.length;
        else expect(offered).toEqual([]);
        for (const { resources } of offered) expect(snapshotOf(resources, sha256).root).toBe(first.snapshot.root);
        void client.close();
        bytes[at] = before;
      }
    }
    expect(harmless).toBeLessThan(content.length / 10);
    offered = [];
    connect({}, message);
    expect(offered).toHaveLength(1);
  });

  test("a key that a trusted one has endorsed is trusted, also over several steps; one that nobody endorsed is not", () => {
    const old = new Signer("k0", clock);
    const stranger = new Signer("k9", clock);
    let trusted: readonly string[] = [];
    openMesh({ ...quietParts(clock, lines.dial), keys: new Map([["k0", old.key()]]), trusted: (keys) => (trusted = [...keys.keys()]) });
    const middle = new Signer("k1", clock);
    const hello = says.hello(signer);
    if (hello.case !== "hello") throw new Error("a hello is one");
    const newest = new Signer("k2", clock);
    lines.last.say({ ...hello, value: { ...hello.value, signingKeys: [newest.key(middle), stranger.key(stranger), middle.key(old)] } });
    expect([...trusted].sort()).toEqual(["k0", "k1", "k2"]);
  });
});

describe("the start", () => {
  const onDisk = (published: Published, ageMs = 0) => ({ held: signer.held(published), confirmedMs: clock.wallMs() - ageMs });

  test("waits for control, and then takes what is on the disk", () => {
    const client = openMesh({ ...quietParts(clock, lines.dial), slots: new SlotsInMemory([onDisk(first)]) });
    lines.last.end();
    clock.advance(4999);
    expect(client.status().root).toBeUndefined();
    clock.advance(1);
    expect(client.status()).toMatchObject({ root: first.snapshot.root, bootedFrom: BootSource.DISK, revision: 1 });
  });

  test("does not look at the disk if control was in time", () => {
    const client = connect({ slots: new SlotsInMemory([onDisk(first)]) }, delta(undefined, second));
    clock.advance(10_000);
    expect(offered.map(({ root }) => root)).toEqual([second.snapshot.root]);
    expect(client.status().bootedFrom).toBe(BootSource.CONTROL);
  });

  test("skips what is too old", () => {
    const day = 24 * 60 * 60_000;
    const client = openMesh({
      ...quietParts(clock, lines.dial),
      slots: new SlotsInMemory([onDisk(second, day + 1), onDisk(first, day - 10_000)]),
    });
    clock.advance(5000);
    expect(client.status().root).toBe(first.snapshot.root);
  });

  test("takes the slot before if the newest one's policy is refused", () => {
    const parts = quietParts(clock, lines.dial);
    const client = openMesh({
      ...parts,
      slots: new SlotsInMemory([onDisk(second), onDisk(first)]),
      check: ({ routes }) => (routes.some((one) => one.metadata?.name === "c") ? [errorOf("no")] : []),
    });
    clock.advance(5000);
    expect(client.status().root).toBe(first.snapshot.root);
  });

  test("what is on the disk is the base of a difference: nothing is downloaded twice", () => {
    connect({ slots: new SlotsInMemory([onDisk(first)]) }, delta(first, second));
    expect(heard(lines.last, "opening")[0]?.diskRoot).toBe(first.snapshot.root);
    expect(heard(lines.last, "ack")).toMatchObject([{ root: second.snapshot.root }]);
  });

  test("a policy that stays the right one is written anew each hour, so that its age is counted from then", () => {
    const slots = new SlotsInMemory();
    connect({ slots }, delta(undefined, first));
    for (let beat = 1; beat <= 300; beat++) {
      lines.last.say(says.heartbeat(first, beat));
      clock.advance(5000);
    }
    for (const line of lines.lines.slice(1)) line.say(says.hello(signer));
    expect(slots.kept).toHaveLength(1);
    for (let beat = 301; beat <= 730; beat++) {
      lines.last.say(says.heartbeat(first, beat));
      clock.advance(5000);
      if (lines.last.heard.length === 1) lines.last.say(says.hello(signer));
    }
    expect(slots.kept).toHaveLength(2);
  });
});

describe("coming back", () => {
  test("is slower after each failure, up to half a minute, and quick again after the first response", () => {
    openMesh({ ...quietParts(clock, lines.dial), random: { next: () => 0.999999 } });
    const waits: number[] = [];
    for (let failure = 0; failure < 9; failure++) {
      const before = lines.lines.length;
      lines.last.end();
      const begun = clock.monotonicMs();
      while (lines.lines.length === before) clock.advance(1);
      waits.push(clock.monotonicMs() - begun);
    }
    expect(waits).toEqual([250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    lines.last.say(says.hello(signer));
    lines.last.end();
    const before = lines.lines.length;
    clock.advance(250);
    expect(lines.lines.length).toBe(before + 1);
  });

  test("honours what control asks for", () => {
    openMesh({ ...quietParts(clock, lines.dial), random: { next: () => 0 } });
    lines.last.end({ code: "resource_exhausted", retryAfterMs: 7000 });
    clock.advance(6999);
    expect(lines.lines).toHaveLength(1);
    clock.advance(1);
    expect(lines.lines).toHaveLength(2);
  });

  test("is slower after snapshots that were not what was announced, whatever control says first", () => {
    connect({ random: { next: () => 0.999999 } });
    for (let time = 0; time < 4; time++) {
      lines.last.say(says.hello(signer), says.delta(undefined, second, signer.root(first)));
      const before = lines.lines.length;
      while (lines.lines.length === before) clock.advance(50);
    }
    expect(clock.monotonicMs() - 1000).toBeGreaterThan(250 + 500 + 1000);
  });
});

describe("secrets", () => {
  test("are opened for this scope and root, under their names; one that is not for this sidecar is left out", () => {
    const delivered: [string, string][] = [];
    connect({
      sealKey: () => ({
        publicKey: new Uint8Array(32),
        open: ({ ciphertext }, bound) => {
          if (ciphertext.length === 0) throw new Error("not ours");
          return `${bound.scope} ${bound.root} ${bound.reference}`;
        },
      }),
      deliver: (secrets) => delivered.push(...secrets),
    });
    lines.last.say({
      case: "secrets",
      value: {
        root: "r",
        secrets: [
          { reference: "default/a", encapsulatedKey: new Uint8Array(32), ciphertext: new Uint8Array(1) },
          { reference: "default/b", encapsulatedKey: new Uint8Array(32), ciphertext: new Uint8Array(0) },
        ],
      },
    } as Say);
    expect(delivered).toEqual([["default/a", "default/chat@2 r default/a"]]);
  });
});

test("how the sidecar does is said every ten seconds", () => {
  connect({ health: () => ({ calls: 5n, failedCalls: 1n, blockedCalls: 0n }) }, delta(undefined, first));
  clock.advance(10_000);
  expect(heard(lines.last, "status")).toMatchObject([{ calls: 5n, failedCalls: 1n, root: first.snapshot.root }]);
});

function errorOf(message: string): Problem {
  return { id: "policy/rule", severity: "error", kind: "", name: "", field: "", message, hint: "" };
}
