/**
 * Control and sidecar in one process: policy goes the way that it goes in a mesh, from a store by control's end to the sidecar's, signed,
 * whole, and acknowledged; only that messages are handed over and not sent.
 *
 * What stands in files and cannot be read never reaches a store. The sidecar is offered it all the same, so that it is refused in the same
 * words and with its lines, and so that it is told when it is gone.
 */
import { Registry } from "prom-client";
import { RolloutMode } from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { listResources } from "../../proto/resources/kinds.ts";
import type { Problem } from "../../proto/resources/problem.ts";
import { controlBeside, type Dial, type Link, type Offer, type PolicySource } from "../../sidecar/main.ts";
import { type Mesh, openMesh } from "../mesh/mesh.ts";
import { countMesh } from "../mesh/metrics.ts";
import { makeSigner } from "../mesh/signing.ts";
import { changeByHand } from "../store/change.ts";
import { openMemory } from "../store/memory.ts";
import type { PolicyStore, StoreChange, StoredPolicy } from "../store/store.ts";
import type { World } from "./world.ts";

/** Policy from outside, read whole each time it changes. */
export interface ReadPolicy {
  /** Gives what was read last, and again whenever that changes, until the function returned is called. */
  subscribe(listener: (read: Offer) => void): () => void;
  /** How it is changed from here; without it, what is changed holds until the process ends. */
  readonly edited?: {
    /** Whether it cannot be changed. */
    readOnly(): boolean;
    /** Makes it say what a change asks for; false if it says something else than the change was made from. */
    change(base: StoredPolicy, change: StoreChange): Promise<boolean>;
    /** Reads it now, and tells whoever has subscribed. */
    read(): Promise<unknown>;
  };
}

/** A control of this process. */
export interface OwnControl {
  /** What its sidecar follows. Ends everything once it is left. */
  readonly source: PolicySource;
  readonly mesh: Mesh;
  /** What holds; a change of it reaches the sidecar and the outside. */
  readonly store: PolicyStore;
}

/** Makes a control of this process. `first` holds from the start; it has no error. */
export async function controlOf(world: World, first: Offer, policy: ReadPolicy): Promise<OwnControl> {
  const { clock } = world;
  const memory = openMemory();
  let last = first;
  let broken: readonly Problem[] = [];
  /** Whether nothing holds any more, because all was taken away from here: then it is right that nothing is read. */
  let isEmptied = false;
  let closed = false;
  /** What was begun last: reading, taking up and changing must not see each other half done. */
  let doing: Promise<unknown> = Promise.resolve();
  const inTurn = <Result>(act: () => Promise<Result>): Promise<Result> => {
    const done = doing.then(act);
    doing = done.catch(() => undefined);
    return done;
  };

  const store: PolicyStore = {
    ...memory,
    get readOnly() {
      return policy.edited?.readOnly() ?? false;
    },
    read: () => inTurn(async () => ({ ...(await memory.read()), problems: broken })),
    write: (change) =>
      inTurn(async () => {
        const base = await memory.read();
        if (change.base !== base.revision || policy.edited === undefined) return memory.write(change);
        // What somebody else has changed is taken up in its turn, and the change is made again from there.
        if (!(await policy.edited.change(base, change))) return { written: false, newest: base.revision };
        const outcome = await memory.write(change);
        isEmptied = (await memory.read()).resources.length === 0;
        await policy.edited.read();
        return outcome;
      }),
  };
  await takeUp(first);
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

  /** Makes the memory hold what was read. Returns the revision that this has become, or undefined if it holds already. */
  async function takeUp({ resources }: Offer): Promise<number | undefined> {
    const before = await memory.read();
    const outcome = await memory.write(changeByHand(before, listResources(resources), "files", clock.wallMs()));
    if (!outcome.written) throw new Error("this process alone writes to its store, in turn");
    return outcome.revision === before.revision ? undefined : outcome.revision;
  }

  /** Brings what was read last to the sidecar: what is read meanwhile takes the place of what waits. */
  async function bring(): Promise<void> {
    for (let brought: Offer | undefined; brought !== last && !closed; ) {
      brought = last;
      const revision = await takeUp(brought);
      if (revision !== undefined) mesh.committed(revision, { resources: listResources(brought.resources), rollout: RolloutMode.AT_ONCE });
    }
  }

  const source: PolicySource = {
    ...beside,
    subscribe(offer, desk) {
      const leave = beside.subscribe(
        (offered, later) => offer({ ...offered, ...(last.locate === undefined ? {} : { locate: last.locate }) }, later),
        desk,
      );
      const stop = policy.subscribe((read) => {
        const before = last;
        if (read === before) return;
        broken = read.problems.filter(({ id, severity }) => severity === "error" && !(isEmptied && id === "policy/no-resources"));
        // What is wrong, and what takes that back, makes no revision: only the sidecar hears of it.
        if (broken.length > 0) {
          offer(read);
          return;
        }
        last = read;
        if (read.root === before.root) offer(read);
        else void inTurn(bring);
      });
      return async () => {
        closed = true;
        stop();
        await leave();
        await doing;
        await mesh.close();
        await memory.close();
      };
    },
  };
  return { source, mesh, store };
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
