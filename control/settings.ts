/**
 * What one control process is set to: addresses, where policy and keys are kept, logging.
 *
 * Settings come from flags and environment, which are somebody else's text: they are read once, here, and trusted from then on.
 */
import { z } from "zod";
import { admissionDefaults } from "./mesh/admission.ts";

const address = z.strictObject({
  host: z.string().min(1).default("127.0.0.1"),
  /** 0 takes any free port. */
  port: z.int().min(0).max(65_535),
});

const schema = z.strictObject({
  /** Where the services are; null for no TCP at all. Loopback unless said otherwise, since policy is powerful. */
  listen: address.nullable().default({ host: "127.0.0.1", port: 7411 }),
  /** A Unix socket with the same services, or null. */
  socketPath: z.string().min(1).max(107).nullable().default(null),
  /** Where health, readiness and metrics are; null for none. */
  ops: address.nullable().default({ host: "127.0.0.1", port: 7413 }),
  /** The folder with keys, authority and tokens, which only its owner can read. */
  dataFolder: z.string().min(1),
  /** The folder with the secrets that control delivers, a folder for each namespace; null for `secrets` in the data folder. */
  secretsFolder: z.string().min(1).nullable().default(null),
  /** Where policy is kept; null for an SQLite file in the data folder. */
  store: z
    .discriminatedUnion("in", [
      z.strictObject({ in: z.literal("memory") }),
      z.strictObject({ in: z.literal("sqlite"), path: z.string().min(1) }),
      z.strictObject({ in: z.literal("files"), path: z.string().min(1), readOnly: z.boolean() }),
    ])
    .nullable()
    .default(null),
  /** Files with a certificate and its key in PEM; null for one of control's own authority where TLS is needed. */
  tls: z
    .strictObject({ certificatePath: z.string().min(1), keyPath: z.string().min(1) })
    .nullable()
    .default(null),
  /** Names and addresses for which control's own authority vouches; with any of them TLS is used on this machine too. */
  tlsHosts: z.array(z.string().min(1).max(253)).default([]),
  /** How a change of policy reaches the sidecars that says nothing about it. */
  rollout: z.enum(["at once", "staged"]).default("at once"),
  /** Whether sidecars that have a higher revision than the store are asked to go back, after it was restored from a backup. */
  acceptRollback: z.boolean().default(false),
  /** How many sidecars a second are let in that have nothing yet; each costs a whole snapshot. */
  coldStartsPerSecond: z.int().min(1).max(admissionDefaults.resumes).default(admissionDefaults.coldStarts),
  /** The Kubernetes cluster whose service accounts are trusted, by its API server; null for none. */
  cluster: z
    .strictObject({
      origin: z.url(),
      caPath: z.string().min(1).nullable(),
      tokenPath: z.string().min(1).nullable(),
      /** Null for the issuer that the API server names. */
      issuer: z.string().min(1).nullable(),
    })
    .nullable()
    .default(null),
  /** Whether to serve without TLS beyond this machine, where something else encrypts or the network is trusted. */
  plaintext: z.boolean().default(false),
  /** Web origins whose pages may call, such as https://console.example.com. */
  corsOrigins: z.array(z.url()).default([]),
  /** Whether a token for this machine alone is made at the start, for as long as the process runs. */
  localToken: z.boolean().default(false),
  logLevel: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
  /** How long running requests may take to end once control stops, in milliseconds: sidecars are spread over it. */
  drainGraceMs: z.int().min(0).default(10_000),
});

/** What one control process is set to. */
export type ControlSettings = z.output<typeof schema>;

/** Settings as they are given: what is left out has its default. */
export type GivenControlSettings = z.input<typeof schema>;

/** Reads settings. Throws an error whose message names every setting at fault, what was expected and what was seen. */
export function controlSettings(given: GivenControlSettings): ControlSettings {
  const read = schema.safeParse(given);
  if (read.success) return read.data;
  const problems = read.error.issues.map(({ path, message }) => `${path.join(".") || "settings"}: ${message}`);
  throw new Error(`The settings are wrong: ${problems.join("; ")}`);
}

/** Reads where policy is kept from the text of a flag: `memory`, `sqlite:FILE`, `files:DIR` or `read-only:DIR`; undefined if it is none of these. */
export function storeSetting(text: string): NonNullable<ControlSettings["store"]> | undefined {
  if (text === "memory") return { in: "memory" };
  const [, kind, path] = /^(sqlite|files|read-only):(.+)$/s.exec(text) ?? [];
  if (path === undefined) return undefined;
  return kind === "sqlite" ? { in: "sqlite", path } : { in: "files", path, readOnly: kind === "read-only" };
}
