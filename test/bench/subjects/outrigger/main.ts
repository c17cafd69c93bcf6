/**
 * The sidecar as it runs in a pod, with its whole pipeline: callers known by key, routes, prices, a log line for every call. A process of
 * its own, started by `subjects/start.ts` with the provider's port. The log goes where it goes in production: to standard error.
 */
import { createHash } from "node:crypto";
import type { Profiler } from "node:inspector";
import { Session } from "node:inspector/promises";
import { readResources } from "../../../../proto/resources.ts";
import { startSidecar } from "../../../../sidecar/main.ts";
import { sidecarSettings } from "../../../../sidecar/settings.ts";
import { CALLER_KEY, PROVIDER_KEY } from "../../payloads.ts";

const [providerPort = ""] = process.argv.slice(2);

const text = `
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: { name: fake-openai }
spec:
  openai: {}
  endpoint: http://127.0.0.1:${providerPort}/v1
  credential: { header: { secret: { env: BENCH_PROVIDER_KEY } } }
  limits: { connections: 2048 }
---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: { name: fake-anthropic }
spec:
  anthropic: {}
  endpoint: http://127.0.0.1:${providerPort}
  credential: { header: { secret: { env: BENCH_PROVIDER_KEY } } }
  limits: { connections: 2048 }
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: { name: gpt }
spec:
  match: { models: ["gpt-*"] }
  targets: [{ provider: fake-openai }]
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: { name: claude }
spec:
  match: { models: ["claude-*"] }
  targets: [{ provider: fake-anthropic }]
---
apiVersion: outrigger.dev/v1alpha1
kind: Consumer
metadata: { name: bench }
spec:
  identities: [{ apiKey: { sha256: ${createHash("sha256").update(CALLER_KEY).digest("hex")} } }]
---
apiVersion: outrigger.dev/v1alpha1
kind: PriceBook
metadata: { name: prices }
spec:
  currency: USD
  rows: [{ model: "*-bench-*", input: 2500000, output: 10000000 }]
`;
const { resources, problems } = readResources([{ path: "bench.yaml", text }]);
if (problems.length > 0) throw new Error(problems.map(({ line, field, message }) => `line ${line}, ${field}: ${message}`).join("\n"));

const sidecar = await startSidecar(
  sidecarSettings({ listen: { port: 0 }, ops: { port: 0 } }),
  {
    subscribe: (offer) => {
      offer({ resources, problems, root: createHash("sha256").update(text).digest("hex") });
      return () => {};
    },
  },
  {
    version: "bench",
    environment: { BENCH_PROVIDER_KEY: PROVIDER_KEY },
  },
);

const session = new Session();

/** Starts or stops a CPU profile of this process. Both hold up the event loop, so they are asked for while there is no load. */
async function profile(ask: "start" | "stop"): Promise<Profiler.Profile | undefined> {
  if (ask === "stop") return (await session.post("Profiler.stop")).profile;
  session.connect();
  await session.post("Profiler.enable");
  // Fine enough for functions of a microsecond; the default of 1 ms takes minutes to show them.
  await session.post("Profiler.setSamplingInterval", { interval: 200 });
  await session.post("Profiler.start");
  return undefined;
}

process.on("message", ({ profile: ask }: { profile: "start" | "stop" }) => {
  profile(ask).then((found) => process.send?.({ found }));
});
process.on("SIGTERM", () => sidecar.close().then(() => process.exit(0)));
process.on("disconnect", () => process.exit(0));
process.send?.({ http1: sidecar.port, http2: sidecar.port });
