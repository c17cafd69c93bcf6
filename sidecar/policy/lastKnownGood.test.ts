import { beforeEach, expect, test } from "vitest";
import { ManualClock } from "../../test/kit/clock.ts";
import { publish, Signer, sha256 } from "../../test/kit/meshControl.ts";
import { routeOf } from "../../test/kit/policy.ts";
import { verifySignature } from "../io/keys.ts";
import { sealEntries } from "../mesh/held.ts";
import { readStatement } from "../mesh/statement.ts";
import { type KeptSlots, openLastKnownGood, type SlotDisk } from "./lastKnownGood.ts";

const clock = new ManualClock();
const signer = new Signer("k1", clock);
const policies = [1, 2, 3].map((revision) => signer.held(publish([routeOf(`r${revision}`, { match: { models: ["m"] } })], revision)));
const [first, second, third] = policies;
if (first === undefined || second === undefined || third === undefined) throw new Error("there are three policies");

let files: Map<string, Uint8Array>;
let failing: boolean;
let notes: string[];

beforeEach(() => {
  files = new Map();
  failing = false;
  notes = [];
});

const disk: SlotDisk = {
  read: async (name) => files.get(name),
  async write(name, bytes) {
    await Promise.resolve();
    if (failing) throw Object.assign(new Error("full"), { code: "ENOSPC" });
    files.set(name, bytes);
  },
};

function open(more: { readonly signer?: Signer; readonly scope?: string } = {}): Promise<KeptSlots> {
  const { scope = "default/chat@2" } = more;
  const keys = new Map([["k1", (more.signer ?? signer).key()]]);
  return openLastKnownGood({
    disk,
    scope,
    sha256,
    believe(signed) {
      if (signed === undefined) return undefined;
      const read = readStatement(signed, keys, scope, verifySignature);
      return "refusal" in read ? undefined : { root: read.statement.root, revision: Number(read.statement.revision) };
    },
    seal: (entries) => sealEntries(entries, sha256),
    note: (_, message, facts) => notes.push(`${message}: ${facts.reason ?? facts.code}`),
  });
}

async function fill(...list: readonly (typeof first)[]): Promise<void> {
  const slots = await open();
  for (const [at, held] of list.entries()) {
    if (held !== undefined) slots.keep(held, 1000 * (at + 1));
    await slots.settled();
  }
}

const roots = ({ found }: KeptSlots): string[] => found.map(({ held }) => held.root);

test("an empty disk holds nothing, and nothing is wrong with it", async () => {
  expect((await open()).found).toEqual([]);
  expect(notes).toEqual([]);
});

test("what was kept is found with all that belongs to it, the newest first", async () => {
  await fill(first, second);
  const { found } = await open();
  expect(found).toEqual([
    { held: second, confirmedMs: 2000 },
    { held: first, confirmedMs: 1000 },
  ]);
});

test("the newest two are kept, whatever their revisions: a step back may have been meant", async () => {
  await fill(first, third, second);
  expect(roots(await open())).toEqual([second.root, third.root]);
});

test("a new date for the same policy leaves the one before in its slot", async () => {
  await fill(first, second, second, second);
  const slots = await open();
  expect(roots(slots)).toEqual([second.root, first.root]);
  expect(slots.found[0]?.confirmedMs).toBe(4000);
});

test("the count goes on after a restart", async () => {
  await fill(first, second);
  await fill(third);
  expect(roots(await open())).toEqual([third.root, second.root]);
});

test("of many that come at once the last one is kept", async () => {
  const slots = await open();
  for (let round = 0; round < 100; round++) for (const held of policies) slots.keep(held, 1);
  await slots.settled();
  expect(roots(await open())[0]).toBe(third.root);
});

test("a full disk loses neither the policy that was there nor the process", async () => {
  await fill(first);
  failing = true;
  await fill(second);
  expect(notes.at(-1)).toContain("ENOSPC");
  failing = false;
  expect(roots(await open())).toEqual([first.root]);
});

/** The promise of the two slots: whatever one flipped bit or one torn write does to the newest, the other is used, and nothing in between. */
test("no slot with a byte changed is ever used, and the other one is", async () => {
  await fill(first, second);
  const [name, good] = newest(second.root);
  for (let at = 0; at < good.length; at++) {
    for (const flip of [1, 0x80, 0xff]) {
      const bytes = good.slice();
      bytes[at] = (bytes[at] ?? 0) ^ flip;
      files.set(name, bytes);
      expect(roots(await open())).toEqual([first.root]);
    }
  }
});

test("no slot that was cut anywhere is ever used, and the other one is", async () => {
  await fill(first, second);
  const [name, good] = newest(second.root);
  for (let length = 0; length < good.length; length++) {
    files.set(name, good.slice(0, length));
    expect(roots(await open())).toEqual([first.root]);
  }
  files.set(name, Uint8Array.of(...good, 0));
  expect(roots(await open())).toEqual([first.root]);
});

test("one whose checksum somebody has put right is still not used: the signature and the root are wrong", async () => {
  await fill(first);
  const [name, good] = newest(first.root);
  const head = good.length - contentOf(good).length;
  for (let at = head; at < good.length; at++) {
    const bytes = good.slice();
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    bytes.set(Buffer.from(sha256(contentOf(bytes)), "hex"), head - 32);
    files.set(name, bytes);
    const { found } = await open();
    // The count and the date stand outside of what is signed: they order slots and age them, and say nothing of policy.
    for (const { held } of found) expect(held).toEqual(first);
  }
});

test("a slot of another scope, or vouched for by a stranger, is not used", async () => {
  await fill(first);
  expect((await open({ scope: "default/other@2" })).found).toEqual([]);
  expect((await open({ signer: new Signer("k1", clock) })).found).toEqual([]);
  expect(notes).toEqual([expect.stringContaining("another scope"), expect.stringContaining("vouched")]);
});

test("a slot that cannot be read is skipped", async () => {
  await fill(first);
  const slots = await openLastKnownGood({
    disk: { ...disk, read: () => Promise.reject(new Error("broken")) },
    scope: "",
    sha256,
    believe: () => undefined,
    seal: (entries) => sealEntries(entries, sha256),
    note: () => undefined,
  });
  expect(slots.found).toEqual([]);
});

/** The slot in which a policy is. */
function newest(root: string): [string, Uint8Array] {
  for (const [name, bytes] of files) {
    // The statement inside holds the root as text.
    if (Buffer.from(bytes).includes(root)) return [name, bytes];
  }
  throw new Error("it is in no slot");
}

function contentOf(bytes: Uint8Array): Uint8Array {
  return bytes.subarray("outrigger slot 1\n".length + 32);
}
