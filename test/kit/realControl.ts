/** A control with real sockets in this process, and light sidecars that speak to it over real connections. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { type Client, ConnectError, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { type Control, startControl } from "../../control/main.ts";
import { controlSettings, type GivenControlSettings } from "../../control/settings.ts";
import { type MeshService, type Opening, SubscribeRequestSchema } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { systemClock } from "../../sidecar/io/clock.ts";
import type { LightSidecar } from "./lightSidecar.ts";

/** A control that runs. */
export interface RealControl {
  readonly control: Control;
  readonly address: string;
  readonly requestSchema: typeof SubscribeRequestSchema;
  /** A way to it, trusting its authority, as whom a certificate says. */
  transport(identity?: { readonly cert: string; readonly key: string }): Transport;
  /** A way to it for somebody who may change everything. */
  asEditor(): Transport;
  close(): Promise<void>;
}

/** Starts one on a free port of this machine. */
export async function startRealControl(given: GivenControlSettings): Promise<RealControl> {
  const settings = controlSettings({
    listen: { port: 0 },
    ops: null,
    store: { in: "memory" },
    localToken: true,
    logLevel: "silent",
    ...given,
  });
  const control = await startControl(settings, { version: "test", clock: systemClock, randomBytes, log: { write: () => undefined } });
  const address = `${control.secure ? "https" : "http"}://127.0.0.1:${control.port}`;
  const transport = (identity: object = {}, authorization?: string): Transport => {
    const ca = control.secure
      ? { ca: readFileSync(join(given.dataFolder, "authority.pem"), "utf8").replace(/^.*?(?=-----BEGIN CERT)/s, "") }
      : {};
    return createGrpcTransport({
      baseUrl: address,
      nodeOptions: { ...ca, ...identity },
      interceptors: [
        (next) => (request) => {
          if (authorization !== undefined) request.header.set("authorization", `Bearer ${authorization}`);
          return next(request);
        },
      ],
    });
  };
  return {
    control,
    address,
    requestSchema: SubscribeRequestSchema,
    transport: (identity) => transport(identity),
    asEditor: () => transport({}, control.localToken),
    close: () => control.close(),
  };
}

/** A sidecar that talks over a connection. */
export interface Talking {
  /** Resolves once something holds; looked at after each message. Rejects if the stream ends before. */
  until(holds: () => boolean): Promise<void>;
  /** Resolves when the stream has ended, to its fault or undefined. */
  readonly ended: Promise<ConnectError | undefined>;
  /** Says what the sidecar has to say by now. */
  flush(): void;
  stop(): Promise<void>;
}

/** Opens a sidecar's stream and lets it answer. */
export function talkOver(client: Client<typeof MeshService>, sidecar: LightSidecar, opening: Opening): Talking {
  const leaving = new AbortController();
  let wake: (() => void) | undefined;
  let looks: (() => void)[] = [];
  async function* say() {
    yield create(SubscribeRequestSchema, { message: { case: "opening", value: opening } });
    while (!leaving.signal.aborted) {
      yield* sidecar.say();
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }
  async function hear(): Promise<ConnectError | undefined> {
    try {
      for await (const message of client.subscribe(say(), { signal: leaving.signal })) {
        sidecar.hear(message);
        wake?.();
        for (const look of looks) look();
      }
      return undefined;
    } catch (error) {
      if (leaving.signal.aborted) return undefined;
      return ConnectError.from(error);
    } finally {
      wake?.();
    }
  }
  const ended = hear();
  return {
    ended,
    flush: () => wake?.(),
    until: (holds) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          if (!holds()) return;
          looks = looks.filter((other) => other !== look);
          resolve();
        };
        looks.push(look);
        look();
        void ended.then((fault) => reject(fault ?? new Error("the stream has ended")));
      }),
    async stop() {
      leaving.abort();
      wake?.();
      await ended;
    },
  };
}
