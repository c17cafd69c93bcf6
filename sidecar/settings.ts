/**
 * What one sidecar process is set to, as opposed to what policy says: addresses, limits of the process, logging.
 *
 * Settings come from flags and environment, which are somebody else's text: they are read once, here, and trusted from then on.
 */
import { z } from "zod";
import { capabilityLevel } from "../proto/capability.ts";

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
