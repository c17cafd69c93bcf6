/** A real sidecar inside the test's own process: real sockets on free ports, real policy from YAML, its log kept to be looked at. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sha256 } from "../../control/sha256.ts";
import { readResources } from "../../proto/resources.ts";
import { snapshotOf } from "../../proto/snapshot.ts";
import { type Sidecar, startSidecar } from "../../sidecar/main.ts";
import type { Offer } from "../../sidecar/policy/watch.ts";
import { type GivenSettings, sidecarSettings } from "../../sidecar/settings.ts";

/** A running sidecar, and what a test does to it. */
export interface TestSidecar {
  readonly port: number;
  /** Such as `http://127.0.0.1:40124`. */
  readonly origin: string;
  readonly opsOrigin: string;
  readonly sidecar: Sidecar;
  /** Everything it logged so far. */
  log(): string;
  /** Offers another policy, as an edited file would. */
  offer(policy: string): void;
  /** Writes a secret to the file that `secretPath` names. */
  setSecret(name: string, value: string): void;
  close(): Promise<void>;
}

/**
 * Starts a sidecar with policy text in which `SECRETS/name` stands for a file that holds the secret `name`. It stands for the same in the
 * values of the environment, and in secrets that are files of settings.
 */
export async function startTestSidecar(
  policy: string,
  secrets: Readonly<Record<string, string>> = {},
  settings: GivenSettings = {},
  variables: Readonly<Record<string, string>> = {},
): Promise<TestSidecar> {
  const folder = mkdtempSync(join(tmpdir(), "outrigger-secrets-"));
  const inPlace = (text: string): string => text.replaceAll("SECRETS/", `${folder}/`);
  const setSecret = (name: string, value: string): void => writeFileSync(join(folder, name), `${inPlace(value)}\n`);
  for (const [name, value] of Object.entries(secrets)) setSecret(name, value);

  const environment = Object.fromEntries(Object.entries(variables).map(([name, value]) => [name, inPlace(value)]));
  let offerRead: (read: Offer) => void = () => {};
  const offer = (text: string): void => {
    const { resources, problems, locate } = readResources([{ path: "policy.yaml", text: inPlace(text) }]);
    offerRead({ resources, problems, root: snapshotOf(resources, sha256).root, locate });
  };
  const lines: string[] = [];
  const sidecar = await startSidecar(
    // Test, provider and sidecar share one event loop here, so that its delay says nothing of the sidecar.
    sidecarSettings({ listen: { port: 0 }, ops: { port: 0 }, lagMaxMs: 60_000, ...settings }),
    {
      subscribe(take) {
        offerRead = take;
        offer(policy);
        return () => {};
      },
    },
    { version: "0.0.0-test", log: { write: (line: string) => void lines.push(line) }, environment },
  );
  return {
    port: sidecar.port,
    origin: `http://127.0.0.1:${sidecar.port}`,
    opsOrigin: `http://127.0.0.1:${sidecar.opsPort}`,
    sidecar,
    log: () => lines.join(""),
    offer,
    setSecret,
    async close() {
      await sidecar.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** The key that the policy below knows. */
export const callerKey = "caller-key-1";
const callerKeySha256 = createHash("sha256").update(callerKey).digest("hex");

/**
 * Policy for tests: two providers at one address, one for each dialect, and routes for the models `open` and
 * `ant` to them. Anyone may call, unless `closed`: then only who has `callerKey`.
 */
export function policyFor(
  origin: string,
  { closed = false, more = "" }: { readonly closed?: boolean; readonly more?: string } = {},
): string {
  return `
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: open-provider}
spec:
  openai: {}
  endpoint: ${origin}/v1
  credential: {header: {secret: {file: SECRETS/open}}}
---
apiVersion: outrigger.dev/v1alpha1
kind: Provider
metadata: {name: ant-provider}
spec:
  anthropic: {}
  endpoint: ${origin}
  credential: {header: {secret: {file: SECRETS/ant}}}
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: open-route}
spec:
  match: {models: [open]}
  targets: [{provider: open-provider, model: upstream-model}]
---
apiVersion: outrigger.dev/v1alpha1
kind: ModelRoute
metadata: {name: ant-route}
spec:
  match: {models: [ant]}
  targets: [{provider: ant-provider, model: upstream-model}]
---
apiVersion: outrigger.dev/v1alpha1
kind: Consumer
metadata: {name: app}
spec:
  team: red
  identities: [${closed ? `{api_key: {sha256: ${callerKeySha256}}}` : "{anonymous: {}}"}]
${more}`;
}
