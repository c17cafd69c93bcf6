/**
 * What one sidecar process is set to, as opposed to what policy says: addresses, limits of the process, logging.
 *
 * Settings come from flags and environment, which are somebody else's text: they are read once, here, and trusted from then on.
 */
import { z } from "zod";
import { capabilityLevel } from "../proto/capability.ts";
import { readJoinToken } from "../proto/mesh.ts";

const address = z.strictObject({
  /** An address to listen on; loopback unless said otherwise, since a sidecar serves its own pod. */
  host: z.string().min(1).default("127.0.0.1"),
  /** 0 takes any free port. */
  port: z.int().min(0).max(65_535),
});

const schema = z.strictObject({
  /** Where the doors are; null for no TCP at all. */
  listen: address.nullable().default({ host: "127.0.0.1", port: 7410 }),
  /** A Unix socket with the same doors, or null. */
  socketPath: z.string().min(1).max(107).nullable().default(null),
  /** Where health, readiness, metrics and drain are; null for none. */
  ops: address.nullable().default({ host: "127.0.0.1", port: 7412 }),
  /** Web origins that may call beside pages served from this machine, such as https://chat.example.com. */
  corsOrigins: z.array(z.url()).default([]),
  logLevel: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
  /** One of this many calls that went well gets a log line; every call that failed does. */
  logOneIn: z.int().min(1).default(1),
  /** Calls in flight at most: 2,000 slow streams are a busy pod, and beyond twice that the process would starve them all. */
  callsMax: z.int().min(1).default(4096),
  /**
   * How late the event loop may be, in milliseconds, before new calls are refused beside those that run. Above 50 ms callers notice: a
   * token that takes 20 ms to make would take three times as long to arrive.
   */
  lagMaxMs: z.number().min(1).default(50),
  /** The most bytes of one request. */
  requestBytesMax: z
    .int()
    .min(1024)
    .default(10 * 1024 * 1024),
  /**
   * How many bytes of sealed thinking are kept for callers who cannot carry it; 0 keeps none. 32 MiB hold some thousand turns of tool
   * loops, and are a third of what the process takes anyway.
   */
  sealedBytesMax: z
    .int()
    .min(0)
    .default(32 * 1024 * 1024),
  /** Whether gRPC clients may ask which services there are. */
  reflection: z.boolean().default(true),
  /** Whether every RPC takes the generic stack: slower, and the reference that the fast path is compared with. */
  genericRpc: z.boolean().default(false),
  /** What policy may ask for at most, as if this were an older build: for trials of a mixed fleet. */
  capabilityLevel: z.int().min(1).max(capabilityLevel).default(capabilityLevel),
  /** How long running calls may take to end once the sidecar stops, in milliseconds. */
  drainGraceMs: z.int().min(0).default(600_000),
});

/** What one sidecar process is set to. */
export type SidecarSettings = z.output<typeof schema>;

/** Settings as they are given: what is left out has its default. */
export type GivenSettings = z.input<typeof schema>;

/** Reads settings. Throws an error whose message names every setting at fault, what was expected and what was seen. */
export function sidecarSettings(given: GivenSettings = {}): SidecarSettings {
  const read = schema.safeParse(given);
  if (read.success) return read.data;
  const problems = read.error.issues.map(({ path, message }) => `${path.join(".") || "settings"}: ${message}`);
  throw new Error(`The settings are wrong: ${problems.join("; ")}`);
}

const meshSchema = z.strictObject({
  /** Where control is, as `https://host:port`, `http://host:port` or `unix:/path`; `host:port` stands for http, as where people ask control. */
  control: z
    .string()
    .transform((text) => (/^[\w.-]+:\d+$|^\[[\da-f:]+\]:\d+$/i.test(text) ? `http://${text}` : text))
    .refine((text) => controlUrl(text) !== undefined, "expected https://HOST:PORT, http://HOST:PORT or unix:/PATH"),
  /** The folder for the last good policy and the identity; null keeps neither beyond the process. */
  stateFolder: z.string().min(1).nullable().default(null),
  /** What buys a certificate, or is shown as it is where there is no TLS; null for none. */
  joinToken: z.string().min(1).nullable().default(null),
  /** A file with a token of the platform, read anew whenever it is needed; null for none. */
  tokenFile: z.string().min(1).nullable().default(null),
  /** A file with the authority, in PEM, whose certificates control shows; null for those that the system trusts. */
  authorityFile: z.string().min(1).nullable().default(null),
  /** Who this sidecar says it is; null for what its certificate or token says, or else default. */
  namespace: z.string().min(1).max(63).nullable().default(null),
  account: z.string().min(1).max(253).nullable().default(null),
  /** Its own name for itself; null for what the token says, or else what was drawn at the first start. */
  instance: z.string().min(1).max(253).nullable().default(null),
  /** Whether to speak without TLS to another machine, where something else encrypts or the network is trusted. */
  plaintext: z.boolean().default(false),
  /** How long control is waited for at the start, in milliseconds, before the policy on the disk is used: longer than a restart's pause. */
  bootGraceMs: z.int().min(0).default(5_000),
  /** How long ago, in milliseconds, control may have confirmed a policy on the disk at most: over a night without anybody awake. */
  maxStaleMs: z
    .int()
    .min(0)
    .default(24 * 60 * 60_000),
});

/** How one sidecar is connected to control. */
export type MeshSettings = z.output<typeof meshSchema>;

/** The same as it is given. */
export type GivenMeshSettings = z.input<typeof meshSchema>;

/** Reads how a sidecar is connected. Throws an error whose message names every setting at fault. */
export function meshSettings(given: GivenMeshSettings): MeshSettings {
  const read = meshSchema.safeParse(given);
  if (!read.success) {
    const problems = read.error.issues.map(({ path, message }) => `${path.join(".") || "settings"}: ${message}`);
    throw new Error(`The settings are wrong: ${problems.join("; ")}`);
  }
  const { control, plaintext, joinToken, tokenFile } = read.data;
  const url = controlUrl(control);
  if (url?.protocol === "http:" && !isLoopback(url.hostname) && !plaintext) {
    throw new Error(
      `The settings are wrong: control: ${url.host} is another machine, and http is not encrypted; expected https, or --plaintext`,
    );
  }
  const token = joinToken === null ? undefined : readJoinToken(joinToken);
  if (joinToken !== null && token === undefined) {
    throw new Error("The settings are wrong: joinToken: this is no join token; `outrigger join-token create` makes one");
  }
  for (const claim of ["namespace", "account"] as const) {
    const said = read.data[claim];
    if (token === undefined || said === null || said === token[claim]) continue;
    throw new Error(
      `The settings are wrong: ${claim}: this is ${said}, and the join token is for ${token.namespace}/${token.account}; it need not be said beside a token`,
    );
  }
  if (joinToken !== null && tokenFile !== null) {
    throw new Error("The settings are wrong: tokenFile: a join token was given too, and a sidecar proves itself in one way");
  }
  return read.data;
}

/** Reads an address of control; undefined if it is none. */
function controlUrl(text: string): URL | undefined {
  if (!URL.canParse(text)) return undefined;
  const url = new URL(text);
  if (url.protocol === "unix:") return url.pathname.startsWith("/") ? url : undefined;
  const bare = (url.pathname === "/" || url.pathname === "") && url.search === "" && url.hash === "" && url.username === "";
  return bare && (url.protocol === "https:" || url.protocol === "http:") && url.hostname !== "" ? url : undefined;
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(\.\d+){3}$/.test(hostname);
}
