/**
 * Control and sidecar in one process: policy goes the way that it goes in a mesh, from a store by control's end to the sidecar's, signed,
 * whole, and acknowledged; only that messages are handed over and not sent.
 *
 * What stands in files and cannot be read never reaches a store. The sidecar is offered it all the same, so that it is refused in the same
 * words and with its lines, and so that it is told when it is gone.
 */
import { Registry } from "prom-client";
import { RolloutMode } from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { fullNameOf, kindOf, listResources, nameOf, namespaceOf, type Resource } from "../../proto/resources/kinds.ts";
import { controlBeside, type Dial, type Link, type Offer, type PolicySource } from "../../sidecar/main.ts";
import { type Mesh, openMesh } from "../mesh/mesh.ts";
import { countMesh } from "../mesh/metrics.ts";
import { makeSigner } from "../mesh/signing.ts";
import { openMemory } from "../store/memory.ts";
import type { World } from "./world.ts";

/** Policy from outside, read whole each time it changes. */
export interface ReadPolicy {
  /** Gives what was read last, and again whenever that changes, until the function returned is called. */
  subscribe(listener: (read: Offer) => void): () => void;
}

/** Makes a control of this process, and gives it as a source of policy. `first` holds from the start; it has no error. */
export async function controlOf(world: World, first: Offer, policy: ReadPolicy): Promise<PolicySource> {
  const { clock } = world;
  const store = openMemory();
  let last = first;
  let revision = await write(first);
  let closed = false;
  const mesh = await openMesh({
    store,
    signer: makeSigner(),
    clock,
    random: {
      next: () => Buffer.from(world.randomBytes(4)).readUInt32BE() / 2 ** 32,
      id: () => Buffer.from(world.randomBytes(8)).toString("hex"),
    },
    identify: () => Promise.reject(new Error("nobody comes in from outside")),
    // The sidecar counts what it is sent; nobody asks this control.
    metrics: countMesh(new Registry()),
    log: () => undefined,
    server: "this process",
    rollout: "at once",
    acceptRollback: false,
  });
  const beside = controlBeside(dialBeside(mesh));

  /** Makes the store hold what was read, and returns the revision. */
  async function write({ resources }: Offer): Promise<number> {
    const before = await store.read();
    const keyOf = (resource: Resource): string => `${kindOf(resource)} ${fullNameOf(resource)}`;
    const list = listResources(resources);
    const there = new Set(list.map(keyOf));
    const removals = before.resources
      .filter(({ resource }) => !there.has(keyOf(resource)))
      .map(({ resource }) => ({ kind: kindOf(resource), namespace: namespaceOf(resource), name: nameOf(resource) }));
    const upserts = list.map((resource) => ({ resource, owner: "" }));
    const outcome = await store.write({
      base: before.revision,
      upserts,
      removals,
      author: "files",
      reason: "",
      atMs: clock.wallMs(),
      rolledBackTo: 0,
    });
    if (!outcome.written) throw new Error("this process alone writes to its store");
    return outcome.revision;
  }

  /** Brings what was read last to the sidecar, one after the other: what is read meanwhile takes the place of what waits. */
  async function bring(): Promise<void> {
    for (let brought: Offer | undefined; brought !== last && !closed; ) {
      brought = last;
      const next = await write(brought);
      if (next === revision) continue;
      revision = next;
      mesh.committed(next, { resources: listResources(brought.resources), rollout: RolloutMode.AT_ONCE });
    }
  }

  return {
    ...beside,
    subscribe(offer, desk) {
      const leave = beside.subscribe(
        (offered, later) => offer({ ...offered, ...(last.locate === undefined ? {} : { locate: last.locate }) }, later),
        desk,
      );
      let bringing = Promise.resolve();
      const stop = policy.subscribe((read) => {
        const before = last;
        if (read === before) return;
        // What is wrong, and what takes that back, makes no revision: only the sidecar hears of it.
        if (read.problems.some(({ severity }) => severity === "error")) {
          offer(read);
          return;
        }
        last = read;
        if (read.root === before.root) offer(read);
        else bringing = bringing.then(bring);
      });
      return async () => {
        closed = true;
        stop();
        await leave();
        await bringing;
        await mesh.close();
        await store.close();
      };
    },
  };
}

/** Hands messages over between the two ends. */
function dialBeside(mesh: Mesh): Dial {
  return ({ received, ended }) => {
    let session: ReturnType<Mesh["openInProcess"]> | undefined;
    let closed = false;
    const link: Link = {
      send({ message, ...rest }) {
        if (closed) return;
        if (session !== undefined) session.receive({ message, ...rest });
        else if (message.case === "opening") {
          session = mesh.openInProcess(message.value);
          void pump(session);
        }
      },
      close() {
        closed = true;
        session?.close();
      },
    };
    async function pump(open: NonNullable<typeof session>): Promise<void> {
      let why = "control ended the stream";
      try {
        for (let next = await open.next(); next !== undefined && !closed; next = await open.next()) received(next);
      } catch (error) {
        why = error instanceof Error ? error.message : String(error);
      }
      if (!closed) ended({ code: "unavailable", message: why, retryAfterMs: undefined });
      closed = true;
    }
    return link;
  };
}
