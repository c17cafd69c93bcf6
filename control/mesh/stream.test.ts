import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  AckSchema,
  HelloSchema,
  NackSchema,
  SubscribeRequestSchema,
  type SubscribeResponse,
} from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { groupResources } from "../../proto/resources/kinds.ts";
import { LightSidecar } from "../../test/kit/lightSidecar.ts";
import { providerOf } from "../../test/kit/policies.ts";
import { type KeptSnapshot, openBook, type SnapshotBook } from "./book.ts";
import { makeSigner, type Signer } from "./signing.ts";
import { answerMs, MeshStream, type StreamTarget } from "./stream.ts";

const signer = makeSigner();
const heartbeatMs = 5_000;
const anyRoot = "ab".repeat(32);

/** A snapshot of so many providers; `salt` makes one differ from another. */
function snapshotOf(book: SnapshotBook, salt: number, count = 3): KeptSnapshot {
  return book.snapshotOf(groupResources(Array.from({ length: count }, (_, at) => providerOf("default", `p${at}`, at === 0 ? salt : at))));
}

function targetOf(snapshot: KeptSnapshot, revision: number, keys: Signer = signer, rollback = false): StreamTarget {
  return {
    snapshot,
    revision,
    secrets: undefined,
    signed: (applied) =>
      applied > revision && !rollback
        ? undefined
        : keys.sign({ root: snapshot.root, revision, scope: "default/chat@2", rollback: applied > revision }, 1_790_000_000_000),
  };
}

function streamFor(book: SnapshotBook, sidecar: LightSidecar, diskRoot = ""): MeshStream {
  const { appliedRoot, appliedRevision, sealKey } = sidecar.opening();
  const hello = create(HelloSchema, { scope: "default/chat@2", signingKeys: [...signer.keys], signingKeyId: signer.keyId });
  const [nowMs, firstHeartbeatMs] = [0, heartbeatMs];
  return new MeshStream({ hello, book, appliedRoot, appliedRevision: Number(appliedRevision), diskRoot, sealKey, nowMs, firstHeartbeatMs });
}

/** Lets both ends talk until neither has anything to say. Returns what control sent. */
function talk(stream: MeshStream, sidecar: LightSidecar, nowMs = 0): SubscribeResponse[] {
  const sent: SubscribeResponse[] = [];
  for (;;) {
    const message = stream.take(nowMs, heartbeatMs);
    if (message !== undefined) {
      sent.push(message);
      sidecar.hear(message);
      continue;
    }
    const said = sidecar.say();
    if (said.length === 0) return sent;
    for (const request of said) expect(stream.receive(request).is).not.toBe("wrong");
  }
}

const casesOf = (sent: readonly SubscribeResponse[]): (string | undefined)[] => sent.map(({ message }) => message.case);

describe("a stream", () => {
  test("sends all to a sidecar that has nothing, then only what differs", () => {
    const [book, sidecar] = [openBook(), new LightSidecar("a")];
    const stream = streamFor(book, sidecar);
    const [one, two] = [snapshotOf(book, 1), snapshotOf(book, 2)];
    stream.retarget(targetOf(one, 1));
    expect(casesOf(talk(stream, sidecar))).toEqual(["hello", "delta"]);
    expect(sidecar.root).toBe(one.root);
    const before = sidecar.bytes;
    stream.retarget(targetOf(two, 2));
    expect(casesOf(talk(stream, sidecar))).toEqual(["delta"]);
    expect(sidecar.root).toBe(two.root);
    expect(sidecar.bytes - before).toBeLessThan(before / 2);
    expect(stream.applied).toEqual({ root: two.root, revision: 2 });
  });

  test("sends a sidecar that comes back with the right root one small message: its statement", () => {
    const [book, sidecar] = [openBook(), new LightSidecar("a")];
    const target = targetOf(snapshotOf(book, 1), 1);
    const first = streamFor(book, sidecar);
    first.retarget(target);
    talk(first, sidecar);
    const again = streamFor(book, sidecar);
    again.retarget(target);
    const before = sidecar.bytes;
    expect(casesOf(talk(again, sidecar))).toEqual(["hello", "delta"]);
    expect(sidecar.bytes - before).toBe(0);
    expect(casesOf(talk(again, sidecar))).toEqual([]);
  });

  test("says what a root has to a sidecar whose root it does not know, and sends what is wanted of it", () => {
    const [book, old, sidecar] = [openBook(), openBook(), new LightSidecar("a")];
    const earlier = streamFor(old, sidecar);
    earlier.retarget(targetOf(snapshotOf(old, 1, 20), 1));
    talk(earlier, sidecar);
    const before = sidecar.bytes;
    const stream = streamFor(book, sidecar);
    const target = targetOf(snapshotOf(book, 2, 20), 2);
    stream.retarget(target);
    expect(casesOf(talk(stream, sidecar))).toEqual(["hello", "manifest", "chunk"]);
    expect(sidecar.root).toBe(target.snapshot.root);
    expect(sidecar.bytes - before).toBeLessThan(2_000);
  });

  test("begins from what is on the disk of a sidecar that enforces nothing yet, and sends a manifest if that cannot be used", () => {
    const [book, sidecar] = [openBook(), new LightSidecar("a")];
    const onDisk = snapshotOf(book, 1, 20);
    const stream = streamFor(book, sidecar, onDisk.root);
    stream.retarget(targetOf(snapshotOf(book, 2, 20), 2));
    // The light sidecar has no disk, so it says that the base is not there.
    expect(casesOf(talk(stream, sidecar))).toEqual(["hello", "delta", "manifest", "chunk"]);
    expect(sidecar.root).toBe(snapshotOf(book, 2, 20).root);
  });

  test("large content comes in pieces, with heartbeats between them", () => {
    const [book, sidecar] = [openBook(), new LightSidecar("a")];
    const large = book.snapshotOf(
      groupResources(
        Array.from({ length: 900 }, (_, at) => {
          const provider = providerOf("default", `p${at}`, at);
          // Text that does not compress: content must stay large.
          const noise = Array.from({ length: 60 }, (_, word) => Math.sin(at * 61 + word).toString(36)).join("");
          return { ...provider, metadata: { ...provider.metadata, labels: { noise } } } as typeof provider;
        }),
      ),
    );
    const stream = streamFor(book, sidecar);
    stream.retarget(targetOf(large, 1));
    const sent = [
      stream.take(0, heartbeatMs),
      stream.take(0, heartbeatMs),
      stream.take(0, heartbeatMs),
      stream.take(heartbeatMs, heartbeatMs),
    ];
    for (const message of sent) if (message !== undefined) sidecar.hear(message);
    expect(sent.map((message) => message?.message.case)).toEqual(["hello", "delta", "chunk", "heartbeat"]);
    talk(stream, sidecar, heartbeatMs);
    expect(sidecar.root).toBe(large.root);
    expect(sidecar.got.filter((kind) => kind === "chunk").length).toBeGreaterThan(1);
  });

  test("a refused root is not sent again, the next one is", () => {
    const [book, sidecar] = [openBook(), new LightSidecar("a")];
    const stream = streamFor(book, sidecar);
    const [one, bad, three] = [snapshotOf(book, 1), snapshotOf(book, 2), snapshotOf(book, 3)];
    stream.retarget(targetOf(one, 1));
    talk(stream, sidecar);
    sidecar.taste = (root) => (root === bad.root ? { refuse: "no" } : "accept");
    stream.retarget(targetOf(bad, 2));
    expect(casesOf(talk(stream, sidecar))).toEqual(["delta"]);
    expect(stream.refusal).toMatchObject({ root: bad.root, revision: 2, problems: [{ message: "no" }] });
    stream.retarget(targetOf(bad, 3));
    expect(casesOf(talk(stream, sidecar))).toEqual([]);
    stream.retarget(targetOf(three, 4));
    expect(casesOf(talk(stream, sidecar))).toEqual(["delta"]);
    expect(sidecar.root).toBe(three.root);
    expect(stream.refusal).toBeUndefined();
  });

  test("a root is tried without being enforced, and before the next target goes out", () => {
    const [book, sidecar] = [openBook(), new LightSidecar("a")];
    const stream = streamFor(book, sidecar);
    stream.retarget(targetOf(snapshotOf(book, 1), 1));
    talk(stream, sidecar);
    stream.try(targetOf(snapshotOf(book, 2), 2));
    expect(casesOf(talk(stream, sidecar))).toEqual(["trial"]);
    expect(sidecar.root).toBe(snapshotOf(book, 1).root);
  });

  test("a lower revision is sent only with a statement that says so", () => {
    const [book, sidecar] = [openBook(), new LightSidecar("a")];
    const stream = streamFor(book, sidecar);
    stream.retarget(targetOf(snapshotOf(book, 1), 7));
    talk(stream, sidecar);
    stream.retarget(targetOf(snapshotOf(book, 2), 3));
    expect(casesOf(talk(stream, sidecar))).toEqual([]);
    stream.retarget(targetOf(snapshotOf(book, 2), 3, signer, true));
    expect(casesOf(talk(stream, sidecar))).toEqual(["delta"]);
    expect(sidecar.revision).toBe(3);
  });

  test("a sidecar that does not answer is stuck after a while, and costs nothing until then", () => {
    const [book, sidecar] = [openBook(), new LightSidecar("a")];
    sidecar.taste = () => "ignore";
    const stream = streamFor(book, sidecar);
    for (let revision = 1; revision < 100; revision++) {
      stream.retarget(targetOf(snapshotOf(book, revision), revision));
      talk(stream, sidecar);
    }
    expect(sidecar.got.filter((kind) => kind === "delta")).toHaveLength(1);
    expect(stream.isStuck(answerMs)).toBe(false);
    expect(stream.isStuck(answerMs + 1)).toBe(true);
  });

  test.each([
    ["wants of a root that it was not sent", { case: "want", root: "0".repeat(64), hashes: [new Uint8Array(32)] }],
    ["wants what the root does not have", { case: "want", root: "", hashes: [new Uint8Array(32)] }],
  ] as const)("ends when the sidecar %s", (_, want) => {
    const [book, sidecar] = [openBook(), new LightSidecar("a")];
    sidecar.taste = () => "ignore";
    const stream = streamFor(book, sidecar);
    const target = targetOf(snapshotOf(book, 1), 1);
    stream.retarget(target);
    talk(stream, sidecar);
    sidecar.tell({
      case: "want",
      value: { $typeName: "outrigger.mesh.v1.Want", root: want.root || target.snapshot.root, hashes: [...want.hashes] },
    });
    const [request] = sidecar.say();
    expect(request && stream.receive(request)).toMatchObject({ is: "wrong" });
  });

  // One sidecar that said that it enforces revision 2^63 - 1 kept everybody's state from being listed, and from being remembered.
  test.each([
    ["enforces a root that is none", { case: "ack", value: create(AckSchema, { root: "x".repeat(1_000_000), revision: 1n }) }],
    ["enforces a revision that is no count", { case: "ack", value: create(AckSchema, { root: anyRoot, revision: 2n ** 63n - 1n }) }],
    ["enforces a revision below nothing", { case: "ack", value: create(AckSchema, { root: anyRoot, revision: -1n }) }],
    ["took longer than can be told", { case: "ack", value: create(AckSchema, { root: anyRoot, applyUs: 2n ** 62n }) }],
    ["refuses a root that is none", { case: "nack", value: create(NackSchema, { refusedRoot: "", keptRoot: anyRoot }) }],
    ["keeps a root that is none", { case: "nack", value: create(NackSchema, { refusedRoot: anyRoot, keptRoot: "none" }) }],
  ] as const)("ends when the sidecar says that it %s, and keeps nothing of it", (_, message) => {
    const stream = streamFor(openBook(), new LightSidecar("a"));
    const before = stream.applied;
    expect(stream.receive(create(SubscribeRequestSchema, { message }))).toMatchObject({ is: "wrong" });
    expect(stream.applied).toEqual(before);
  });

  test("keeps the first problems of a refusal that has more than anybody reads", () => {
    const problems = Array.from({ length: 600 }, (_, at) => ({ field: `f${at}`, message: "x".repeat(1_024) }));
    const refusal = { case: "nack" as const, value: create(NackSchema, { refusedRoot: anyRoot, problems }) };
    const event = streamFor(openBook(), new LightSidecar("a")).receive(create(SubscribeRequestSchema, { message: refusal }));
    if (event.is !== "refused") throw new Error(`the refusal was ${event.is}`);
    expect(event.problems.length).toBeGreaterThan(200);
    expect(event.problems.length).toBeLessThan(300);
    expect(event.problems[0]).toMatchObject({ field: "f0" });
  });
});

/** What can happen to a stream, in any order. */
type Step = { readonly is: "target" | "down" | "up" | "reconnect" | "time" | "try"; readonly n: number };

const anyStep: fc.Arbitrary<Step> = fc.record({
  is: fc.constantFrom("target", "target", "down", "down", "down", "up", "up", "reconnect", "time", "try"),
  n: fc.nat(5),
});

/**
 * Drives a stream and a sidecar by steps, then lets them talk. Whatever the order, the sidecar never holds two unanswered roots (it
 * throws), never sees a revision fall (it throws), what it holds always has the root that was signed (it throws), and in the end it
 * enforces the newest target that it does not refuse.
 */
function drive(steps: readonly Step[], refused: ReadonlySet<number>, variant: (stream: MeshStream) => MeshStream): void {
  const [book, sidecar] = [openBook(), new LightSidecar("a")];
  const snapshots = Array.from({ length: 6 }, (_, salt) => snapshotOf(book, salt, 4));
  const bad = new Set([...refused].map((at) => snapshots[at]?.root));
  sidecar.taste = (root) => (bad.has(root) ? { refuse: "no" } : "accept");
  let stream = variant(streamFor(book, sidecar));
  let [revision, nowMs] = [1, 0];
  let target = targetOf(snapshots[0] ?? snapshotOf(book, 0), revision);
  stream.retarget(target);
  for (const { is, n } of steps) {
    if (is === "target") {
      revision += 1;
      target = targetOf(snapshots[n] ?? snapshotOf(book, n), revision);
      stream.retarget(target);
    } else if (is === "time") nowMs += n * 1000;
    else if (is === "try") stream.try(targetOf(snapshots[n] ?? snapshotOf(book, n), revision));
    else if (is === "reconnect") {
      stream = variant(streamFor(book, sidecar));
      stream.retarget(target);
    } else if (is === "up") for (const request of sidecar.say()) expect(stream.receive(request).is).not.toBe("wrong");
    else {
      const message = stream.take(nowMs, heartbeatMs);
      if (message !== undefined) sidecar.hear(message);
    }
  }
  talk(stream, sidecar, nowMs);
  if (!bad.has(target.snapshot.root)) expect(sidecar.root).toBe(target.snapshot.root);
  else expect(stream.refusal?.root).toBe(target.snapshot.root);
}

const anyDrive = fc.tuple(fc.array(anyStep, { maxLength: 60 }), fc.uniqueArray(fc.nat(5), { maxLength: 2 }));

test("whatever happens in whatever order, roots are sent one at a time, whole and rising, and the newest is reached", () => {
  fc.assert(
    fc.property(anyDrive, ([steps, refused]) => drive(steps, new Set(refused), (stream) => stream)),
    { numRuns: process.env.OUTRIGGER_LONG === undefined ? 500 : 10_000 },
  );
});

test.each<[string, (stream: MeshStream) => MeshStream]>([
  [
    "the next root goes out before the last one is answered",
    (stream) => {
      const [retarget, take] = [stream.retarget.bind(stream), stream.take.bind(stream)];
      let [wanted, sent] = ["", ""];
      stream.retarget = (target) => {
        wanted = target?.snapshot.root ?? "";
        // As if what is on its way had been answered already.
        if (sent !== "")
          stream.receive(create(SubscribeRequestSchema, { message: { case: "ack", value: create(AckSchema, { root: sent }) } }));
        retarget(target);
      };
      stream.take = (nowMs, everyMs) => {
        const message = take(nowMs, everyMs);
        if (message?.message.case === "delta") sent = wanted;
        return message;
      };
      return stream;
    },
  ],
  [
    "a difference loses what it changes",
    (stream) => {
      const take = stream.take.bind(stream);
      stream.take = (nowMs, everyMs) => {
        const message = take(nowMs, everyMs);
        if (message?.message.case === "delta" && message.message.value.baseRoot !== "") message.message.value.content = new Uint8Array();
        return message;
      };
      return stream;
    },
  ],
  [
    "a target that came while another was on its way is forgotten",
    (stream) => {
      const retarget = stream.retarget.bind(stream);
      stream.retarget = (target) => {
        if (stream.awaitingSinceMs === undefined) retarget(target);
      };
      return stream;
    },
  ],
])("is caught: %s", (_, variant) => {
  const property = fc.property(anyDrive, ([steps, refused]) => drive(steps, new Set(refused), variant));
  expect(fc.check(property, { numRuns: 5_000, endOnFailure: true }).failed).toBe(true);
});
