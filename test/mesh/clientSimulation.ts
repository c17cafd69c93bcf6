/**
 * Sidecars and a control in virtual time, with everything that networks do: delay, loss, doubled and swapped messages, cuts, silence; and
 * with somebody in between who replays and changes what was signed. What must hold is looked at whenever a sidecar does something.
 *
 * Two phases, as ships are tested: first anything goes wrong and nothing unsafe may happen, then all is well and everything must arrive.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  RootStatementSchema,
  type SubscribeRequest,
  type SubscribeResponse,
  SubscribeResponseSchema,
} from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { type Snapshot, snapshotOf } from "../../proto/snapshot.ts";
import { type MeshClient, type MeshParts, openMesh } from "../../sidecar/mesh/client.ts";
import type { LinkEvents } from "../../sidecar/mesh/link.ts";
import type { Offer } from "../../sidecar/policy/watch.ts";
import { ManualClock } from "../kit/clock.ts";
import { type Published, publish, quietParts, type Say, Signer, SlotsInMemory, says, sha256 } from "../kit/meshControl.ts";
import { routeOf } from "../kit/policy.ts";
import { type SeededRandom, seededRandom } from "../kit/random.ts";

/** What was seen to be wrong in one run; empty if nothing was. */
export type Violations = readonly string[];

/** How the network behaves, each from 0 to 1 for one message. */
export interface Weather {
  readonly lose: number;
  readonly double: number;
  readonly swap: number;
  readonly cut: number;
  /** That a link goes silent for good. */
  readonly silence: number;
  /** That somebody in between replays something old, or changes a byte. */
  readonly meddle: number;
}

/** A way to break the client, to show that the looking finds it. */
export type Sabotage = (parts: MeshParts, inForce: InForce, clock: ManualClock) => MeshParts;

/** What a sidecar really enforces. */
export interface InForce {
  root: string;
  revision: number;
  snapshot: Snapshot | undefined;
}

const storm: Weather = { lose: 0.03, double: 0.03, swap: 0.03, cut: 0.02, silence: 0.01, meddle: 0.03 };

/** Runs one case. The same seed gives the same run. */
export function runCase(seed: number, sabotage: Sabotage = (parts) => parts, weather: Weather = storm): Violations {
  const random = seededRandom(seed);
  const clock = new ManualClock();
  const violations: string[] = [];
  const control = new SimulatedControl(clock, random, weather);
  const inForce: InForce = { root: "", revision: 0, snapshot: undefined };
  let highest = 0;

  const quiet = quietParts(clock, (events) => control.accept(events, (request) => lookAt(request)));
  const put = (offer: Offer): void => {
    inForce.root = offer.root;
    inForce.snapshot = snapshotOf(offer.resources, sha256);
    const published = control.published.find(({ snapshot }) => snapshot.root === offer.root);
    if (published === undefined) violations.push(`a root holds that was never published: ${offer.root.slice(0, 8)}`);
    inForce.revision = published?.revision ?? 0;
    if (inForce.snapshot.root !== offer.root) violations.push("what holds is not what its root says");
    if (inForce.revision < highest) violations.push(`revision ${inForce.revision} holds after ${highest}`);
    highest = Math.max(highest, inForce.revision);
  };
  const parts: MeshParts = {
    ...quiet,
    random,
    keys: new Map([[control.signer.id, control.signer.key()]]),
    // Every seventh policy is one that this sidecar cannot take.
    offer(offer) {
      const revision = control.published.find(({ snapshot }) => snapshot.root === offer.root)?.revision ?? 0;
      if (revision % 7 === 3) return { applied: false, root: offer.root, problems: [], tookMs: 0 };
      put(offer);
      return { applied: true, root: offer.root, changed: true, warnings: [], tookMs: 0 };
    },
    slots: new SlotsInMemory(),
  };

  function lookAt({ message }: SubscribeRequest): void {
    if (message.case === "ack") {
      if (message.value.root !== inForce.root) violations.push("a root was acknowledged that does not hold");
      if (inForce.snapshot?.root !== message.value.root) violations.push("a root was acknowledged that does not hold whole");
      const published = control.published.some(
        (one) => one.snapshot.root === message.value.root && BigInt(one.revision) === message.value.revision,
      );
      if (!published) violations.push(`revision ${message.value.revision} was acknowledged, which was never published with that root`);
    }
    if (message.case === "opening" && message.value.appliedRoot !== inForce.root)
      violations.push("the opening names another root than holds");
  }

  const client: MeshClient = openMesh(sabotage(parts, inForce, clock));
  for (let step = 0; step < 12; step++) {
    control.change();
    clock.advance(random.below(20_000));
  }
  control.heal();
  // A backoff at its longest, a stream that is silent already, and a minute in which heartbeats name what does not come.
  clock.advance(150_000);
  const wanted = control.newest;
  if (inForce.root !== wanted.snapshot.root) violations.push("all is well, and the newest root does not hold");
  if (client.status().root !== (inForce.root === "" ? undefined : inForce.root))
    violations.push("the status names another root than holds");
  void client.close();
  control.close();
  if (clock.waiting > 0) violations.push(`${clock.waiting} timers wait after the end`);
  return violations;
}

/**
 * How many of many sidecars that lose control in one moment come back within the tenth of the first backoff in which most do: 1 is a herd,
 * and a tenth is none.
 */
export function herdShare(seed: number, next?: () => number): number {
  const random = seededRandom(seed);
  const clock = new ManualClock();
  const dialled: number[] = [];
  const sidecars = 400;
  let cut = false;
  const ends: (() => void)[] = [];
  const clients = Array.from({ length: sidecars }, () =>
    openMesh({
      ...quietParts(clock, (events) => {
        if (cut) dialled.push(clock.monotonicMs());
        else ends.push(() => events.ended({ code: "unavailable", message: "gone", retryAfterMs: undefined }));
        return { send: () => undefined, close: () => undefined };
      }),
      random: { next: next ?? random.next },
    }),
  );
  cut = true;
  const beganMs = clock.monotonicMs();
  for (const end of ends) end();
  clock.advance(250);
  for (const client of clients) void client.close();
  const tenths = new Array<number>(11).fill(0);
  for (const atMs of dialled) {
    const tenth = Math.min(Math.floor((atMs - beganMs) / 25), 10);
    tenths[tenth] = (tenths[tenth] ?? 0) + 1;
  }
  return Math.max(...tenths) / sidecars;
}

/** Ways to break the client, each of which the looking must find. */
export const plantedBugs: Readonly<Record<string, Sabotage>> = Object.freeze({
  "half of a policy holds": (parts) => ({
    ...parts,
    offer: (offer, later) =>
      parts.offer({ ...offer, resources: { ...offer.resources, routes: offer.resources.routes.slice(0, -1) } }, later),
  }),
  "a root is acknowledged before it holds": (parts, _, clock) => ({
    ...parts,
    offer(offer, later) {
      clock.after(1, () => parts.offer(offer, later));
      return { applied: true, root: offer.root, changed: true, warnings: [], tookMs: 0 };
    },
  }),
  "signatures are not looked at": (parts) => ({ ...parts, verify: () => true }),
  "time is never up": (parts, _, clock) => ({
    ...parts,
    clock: {
      monotonicMs: () => clock.monotonicMs(),
      wallMs: () => clock.wallMs(),
      after: (ms, then) => clock.after(ms > 10_000 ? 1e9 : ms, then),
    },
  }),
});

/** A control that publishes, and keeps each stream up to date in the way of the mesh. */
class SimulatedControl {
  readonly signer: Signer;
  readonly published: Published[] = [];
  readonly #clock: ManualClock;
  readonly #random: SeededRandom;
  #weather: Weather;
  readonly #streams = new Set<SimulatedStream>();
  readonly #said: Say[] = [];

  constructor(clock: ManualClock, random: SeededRandom, weather: Weather) {
    this.#clock = clock;
    this.#random = random;
    this.#weather = weather;
    this.signer = new Signer("k1", clock);
    this.change();
  }

  get newest(): Published {
    const newest = this.published.at(-1);
    if (newest === undefined) throw new Error("something was published");
    return newest;
  }

  /** Publishes another policy. */
  change(): void {
    const revision = this.published.length + 1;
    const names = ["a", "b", "c", "d"].slice(0, 1 + this.#random.below(4));
    const routes = names.map((name) =>
      routeOf(name, { match: { models: [`m${this.#random.below(5)}`] }, targets: [{ provider: `p${revision}` }] }),
    );
    this.published.push(publish(routes, revision));
    for (const stream of this.#streams) stream.look();
  }

  accept(events: LinkEvents, heard: (request: SubscribeRequest) => void) {
    const stream = new SimulatedStream(this, this.#clock, this.#random, events);
    this.#streams.add(stream);
    return {
      send: (request: SubscribeRequest) => {
        heard(request);
        stream.carry(() => stream.take(request));
      },
      close: () => {
        stream.end();
        this.#streams.delete(stream);
      },
    };
  }

  /** From now on nothing goes wrong any more. Links that are silent stay so: their sidecars must notice by themselves. */
  heal(): void {
    this.#weather = { lose: 0, double: 0, swap: 0, cut: 0, silence: 0, meddle: 0 };
  }

  close(): void {
    for (const stream of this.#streams) stream.end();
    this.#streams.clear();
  }

  get weather(): Weather {
    return this.#weather;
  }

  /** What was said before, to be said again by somebody else; or the same with a byte changed. */
  meddle(message: Say): Say {
    this.#said.push(message);
    if (this.#random.next() >= this.#weather.meddle) return message;
    const old = this.#said[this.#random.below(this.#said.length)] ?? message;
    const copy = structuredClone(old);
    if (this.#random.next() < 0.5 || copy.case === undefined) return copy;
    const { value } = copy;
    if (copy.case === "delta" && "target" in value && value.target?.statement !== undefined) {
      if (this.#random.next() < 0.3) {
        // A statement that says something else, with the old signature.
        const statement = fromBinary(RootStatementSchema, value.target.statement);
        statement.revision += 1n;
        value.target.statement = toBinary(RootStatementSchema, statement);
        return copy;
      }
      const bytes = this.#random.next() < 0.5 ? value.target.statement : value.content;
      if (bytes !== undefined && bytes.length > 0) {
        const at = this.#random.below(bytes.length);
        bytes[at] = (bytes[at] ?? 0) ^ (1 << this.#random.below(8));
      }
    }
    return copy;
  }
}

/** One stream, as control keeps it. */
class SimulatedStream {
  readonly #control: SimulatedControl;
  readonly #clock: ManualClock;
  readonly #random: SeededRandom;
  readonly #events: LinkEvents;
  readonly #timers = new Set<() => void>();
  #open = true;
  #silent = false;
  #sequence = 0;
  #has: Snapshot | undefined;
  #sent: Published | undefined;
  #refused = "";
  #opened = false;

  constructor(control: SimulatedControl, clock: ManualClock, random: SeededRandom, events: LinkEvents) {
    this.#control = control;
    this.#clock = clock;
    this.#random = random;
    this.#events = events;
  }

  /** Brings something over the network, or does not. */
  carry(arrive: () => void): void {
    const { weather } = this.#control;
    if (!this.#open || this.#silent) return;
    if (this.#random.next() < weather.silence) {
      this.#silent = true;
      return;
    }
    if (this.#random.next() < weather.cut) {
      this.#after(this.#random.below(50), () => this.#cut());
      return;
    }
    if (this.#random.next() < weather.lose) return;
    const times = this.#random.next() < weather.double ? 2 : 1;
    for (let time = 0; time < times; time++) {
      // In order, unless it is swapped: a whole number of milliseconds, and timers of one moment keep theirs.
      this.#after(this.#random.next() < weather.swap ? 10 + this.#random.below(40) : 5, arrive);
    }
  }

  take({ message }: SubscribeRequest): void {
    switch (message.case) {
      case "opening": {
        if (this.#opened) return;
        this.#opened = true;
        this.#has = this.#control.published.find(({ snapshot }) => snapshot.root === message.value.appliedRoot)?.snapshot;
        this.#say(says.hello(this.#control.signer, { heartbeatMs: 5000 }));
        this.#beat();
        this.look();
        break;
      }
      case "ack":
        this.#has = this.#control.published.find(({ snapshot }) => snapshot.root === message.value.root)?.snapshot;
        if (this.#sent?.snapshot.root === message.value.root) this.#sent = undefined;
        this.look();
        break;
      case "nack":
        this.#refused = message.value.refusedRoot;
        if (this.#sent?.snapshot.root === message.value.refusedRoot) this.#sent = undefined;
        this.look();
        break;
      case "want": {
        const wanted = this.#control.published.find(({ snapshot }) => snapshot.root === message.value.root);
        if (wanted === undefined) return;
        if (message.value.hashes.length === 0) this.#say(says.manifest(wanted, this.#control.signer.root(wanted)));
        else for (const word of says.wanted(wanted.snapshot, message.value.hashes, 64)) this.#say(word);
        break;
      }
      default:
        break;
    }
  }

  /** Sends the newest root if the sidecar lacks it and nothing is on its way. */
  look(): void {
    const { newest, signer } = this.#control;
    if (!this.#opened || this.#sent !== undefined || this.#has?.root === newest.snapshot.root || this.#refused === newest.snapshot.root)
      return;
    this.#sent = newest;
    const signed = signer.root(newest, { lifeMs: 3_600_000 });
    const way = this.#random.below(3);
    if (way === 0) this.#say(says.manifest(newest, signed));
    else if (way === 1) for (const word of says.chunkedDelta(this.#has, newest, signed, false, 64)) this.#say(word);
    else this.#say(says.delta(this.#has, newest, signed));
  }

  end(): void {
    this.#open = false;
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
  }

  #beat(): void {
    this.#after(5000, () => {
      this.#sequence += 1;
      this.#say(says.heartbeat(this.#control.newest, this.#sequence));
      this.#beat();
    });
  }

  #say(word: Say): void {
    const message = this.#control.meddle(word);
    this.carry(() => {
      if (this.#open) this.#events.received(create(SubscribeResponseSchema, { message }) as SubscribeResponse);
    });
  }

  #cut(): void {
    if (!this.#open) return;
    this.end();
    this.#events.ended({ code: "unavailable", message: "cut", retryAfterMs: undefined });
  }

  #after(delayMs: number, then: () => void): void {
    const cancel = this.#clock.after(delayMs, () => {
      this.#timers.delete(cancel);
      then();
    });
    this.#timers.add(cancel);
  }
}
