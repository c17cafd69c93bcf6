/**
 * The sidecar as it runs in a pod, with its whole pipeline: callers known by key, routes, prices, a log line for every call. A process of
 * its own, started by `subjects/start.ts` with the provider's port. The log goes where it goes in production: to standard error.
 */
import { createHash } from "node:crypto";
import type { Profiler } from "node:inspector";
import type { Session as ProfilerSession } from "node:inspector/promises";
import { create } from "@bufbuild/protobuf";
import { ConsumerSchema } from "../../../../proto/gen/outrigger/policy/v1/consumer_pb.ts";
import type { ModelRoute } from "../../../../proto/gen/outrigger/policy/v1/model_route_pb.ts";
import { ModelRouteSchema } from "../../../../proto/gen/outrigger/policy/v1/model_route_pb.ts";
import { PriceBookSchema } from "../../../../proto/gen/outrigger/policy/v1/price_book_pb.ts";
import { ProviderSchema } from "../../../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import type { Resources } from "../../../../proto/resources.ts";
import { startSidecar } from "../../../../sidecar/main.ts";
import { sidecarSettings } from "../../../../sidecar/settings.ts";
import { CALLER_KEY, PROVIDER_KEY } from "../../payloads.ts";

const [providerPort = ""] = process.argv.slice(2);

const apiVersion = "outrigger.dev/v1alpha1";
const credential = {
  form: { case: "header" as const, value: { secret: { source: { case: "env" as const, value: "BENCH_PROVIDER_KEY" } } } },
};
const limits = { connections: 2048 };

/** Policy as messages, which is how control sends it: a sidecar in a pod reads no YAML. */
const resources: Resources = {
  providers: [
    create(ProviderSchema, {
      apiVersion,
      kind: "Provider",
      metadata: { name: "fake-openai" },
      spec: { dialect: { case: "openai", value: {} }, endpoint: `http://127.0.0.1:${providerPort}/v1`, credential, limits },
    }),
    create(ProviderSchema, {
      apiVersion,
      kind: "Provider",
      metadata: { name: "fake-anthropic" },
      spec: {
        // Of a model that it does not know the sidecar thinks that it takes no temperature, which all requests here set.
        dialect: { case: "anthropic", value: { models: [{ pattern: "claude-bench-*", sampling: true }] } },
        endpoint: `http://127.0.0.1:${providerPort}`,
        credential,
        limits,
      },
    }),
    create(ProviderSchema, {
      apiVersion,
      kind: "Provider",
      metadata: { name: "fake-gemini" },
      spec: { dialect: { case: "gemini", value: {} }, endpoint: `http://127.0.0.1:${providerPort}`, credential, limits },
    }),
  ],
  routes: [route("gpt", "gpt-*", "fake-openai"), route("claude", "claude-*", "fake-anthropic"), route("gemini", "gemini-*", "fake-gemini")],
  consumers: [
    create(ConsumerSchema, {
      apiVersion,
      kind: "Consumer",
      metadata: { name: "bench" },
      spec: { identities: [{ kind: { case: "apiKey", value: { sha256: sha256(CALLER_KEY) } } }] },
    }),
  ],
  priceBooks: [
    create(PriceBookSchema, {
      apiVersion,
      kind: "PriceBook",
      metadata: { name: "prices" },
      spec: { currency: "USD", rows: [{ model: "*-bench-*", input: 2_500_000n, output: 10_000_000n }] },
    }),
  ],
  grants: [],
};

function route(name: string, model: string, provider: string): ModelRoute {
  return create(ModelRouteSchema, {
    apiVersion,
    kind: "ModelRoute",
    metadata: { name },
    spec: { match: { models: [model] }, targets: [{ provider }] },
  });
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

const sidecar = await startSidecar(
  // A bench finds out how much can be done, on a machine that others may use too: it must not be refused for a slow second.
  sidecarSettings({ listen: { port: 0 }, ops: { port: 0 }, lagMaxMs: 10_000 }),
  {
    subscribe: (offer) => {
      offer({ resources, problems: [], root: sha256("bench") });
      return () => {};
    },
  },
  {
    version: "bench",
    environment: { BENCH_PROVIDER_KEY: PROVIDER_KEY },
  },
);

let session: ProfilerSession | undefined;

/** Starts a CPU profile of this process, or stops the one that runs. Both hold up the event loop, so there must be no load. */
async function profile(): Promise<Profiler.Profile | undefined> {
  if (session !== undefined) return (await session.post("Profiler.stop")).profile;
  // Loaded only here, so that it weighs nothing while memory and start are measured.
  const { Session } = await import("node:inspector/promises");
  session = new Session();
  session.connect();
  await session.post("Profiler.enable");
  // Fine enough for functions of a microsecond; the default of 1 ms takes minutes to show them.
  await session.post("Profiler.setSamplingInterval", { interval: 200 });
  await session.post("Profiler.start");
  return undefined;
}

// The only thing that is ever asked of it.
process.on("message", () => {
  profile().then((found) => process.send?.({ found }));
});
process.on("SIGTERM", () => sidecar.close().then(() => process.exit(0)));
process.on("disconnect", () => process.exit(0));
process.send?.({ http1: sidecar.port, http2: sidecar.port });
