/**
 * Secrets by reference: environment variables and files, read where they stand and shown nowhere.
 *
 * A call never waits for a file: it gets the value that was read last. Files are looked at again every few seconds, so that a key can
 * be replaced without a restart; a file that has gone bad is reported once and its last good value stays.
 */
import { readFileSync, statSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { Fault, FaultReason } from "../../proto/fault.ts";
import type { SecretReference } from "../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import { isShowable } from "../../proto/resources/secrecy.ts";
import { type Clock, Secret } from "../call.ts";
import type { SecretSource } from "../policy/compile.ts";

/** How long a replaced key may stay unseen. Kubernetes takes up to a minute to bring one to a pod, so this adds little. */
const lookAgainMs = 5_000;
/** Bytes of a secret at most: a header of more is refused by every server. */
const bytesMax = 16 * 1024;

/** Hears that a file which was good is no longer, with a message that is safe to log. */
export type WarnOfSecret = (message: string, facts: Readonly<Record<string, string>>) => void;

/** Finds secrets, and keeps those from files fresh. */
export interface Secrets {
  /** The secret that a reference names, or why it cannot be had. Reads a file the first time, so call it while a policy is made. */
  find(reference: SecretReference, namespace?: string): SecretSource;
  /** Takes secrets that control has delivered, by namespace and name, such as `default/key`. Those that came before stay until replaced. */
  deliver(secrets: ReadonlyMap<string, string>): void;
  /** Looks at all files in use now. Resolves when done; never rejects. If it is at it already, resolves with that. */
  refresh(): Promise<void>;
  /** Stops looking. Secrets that were found stay as they are. */
  close(): void;
}

/**
 * Makes what finds secrets. `environment` is what the process was started with. Nothing runs until a file is asked for, and nothing
 * once no policy uses one. `delivers` says whether there is a control that delivers secrets.
 */
export function openSecrets(
  environment: Readonly<Record<string, string | undefined>>,
  clock: Clock,
  warn: WarnOfSecret,
  delivers = false,
): Secrets {
  // A policy holds its secrets, and once it is gone with its last call nobody looks at their files any more.
  const files = new Map<string, WeakRef<SecretFile>>();
  let cancelTimer: (() => void) | undefined;
  let refreshing: Promise<void> | undefined;
  let closed = false;
  /** In memory alone. */
  const delivered = new Map<string, Secret>();

  function filesInUse(): SecretFile[] {
    const inUse: SecretFile[] = [];
    for (const [path, reference] of files) {
      const file = reference.deref();
      if (file === undefined) files.delete(path);
      else inUse.push(file);
    }
    return inUse;
  }

  function schedule(): void {
    if (closed || cancelTimer !== undefined || filesInUse().length === 0) return;
    cancelTimer = clock.after(lookAgainMs, () => {
      cancelTimer = undefined;
      void refresh().then(schedule);
    });
  }

  function refresh(): Promise<void> {
    refreshing ??= Promise.all(filesInUse().map((file) => lookAgain(file, warn))).then(() => {
      refreshing = undefined;
    });
    return refreshing;
  }

  function findFile(path: string): SecretSource {
    const known = files.get(path)?.deref();
    const file = known ?? readFirst(path);
    if ("missing" in file) return file;
    if (known === undefined) files.set(path, new WeakRef(file));
    schedule();
    return { read: () => file.secret };
  }

  return {
    find({ source }, namespace = "default") {
      switch (source.case) {
        case "delivered":
          return delivers
            ? { read: () => readDelivered(delivered, `${namespace}/${source.value}`) }
            : { missing: "Only a sidecar that gets its policy from control has secrets delivered." };
        case "env":
          return findVariable(source.value, Object.hasOwn(environment, source.value) ? environment[source.value] : undefined);
        case "file":
          return findFile(source.value);
        default:
          return { missing: "The reference names neither an environment variable (env) nor a file." };
      }
    },
    deliver(secrets) {
      for (const [name, value] of secrets) {
        const checked = checkSecret(value);
        if (checked instanceof Secret) delivered.set(name, checked);
        else warn(`A secret that control delivered ${checked}. Its last value stays in use.`, { secret: name });
      }
    },
    refresh,
    close() {
      closed = true;
      cancelTimer?.();
      cancelTimer = undefined;
    },
  };
}

/** A file and what it held when it was last good. */
interface SecretFile {
  readonly path: string;
  /** Changes whenever the file does. */
  signature: string;
  secret: Secret;
  /** What was last reported of it, so that nothing is reported twice in a row. */
  reported: string;
}

/** A secret that was delivered. It may come after the policy that wants it: a start from the disk has none until control is back. */
function readDelivered(delivered: ReadonlyMap<string, Secret>, name: string): Secret {
  const secret = delivered.get(name);
  if (secret !== undefined) return secret;
  const message = "The provider's credential has not been delivered to this sidecar yet. Try again shortly.";
  throw new Fault(FaultReason.PROVIDER_CREDENTIAL_UNAVAILABLE, message, { facts: { secret: name } });
}

function findVariable(name: string, value: string | undefined): SecretSource {
  const shown = isShowable(name) ? name : "(not shown)";
  if (value === undefined) return { missing: `The environment variable ${shown} is not set.` };
  const checked = checkSecret(value);
  if (typeof checked === "string") return { missing: `The environment variable ${shown} ${checked}.` };
  return { read: () => checked };
}

function readFirst(path: string): SecretFile | { readonly missing: string } {
  const shown = isShowable(path) ? path : "(not shown)";
  try {
    const signature = signatureOf(statSync(path, { bigint: true }));
    if (typeof signature === "object") return { missing: `The file ${shown} ${signature.wrong}.` };
    const checked = checkSecret(readFileSync(path, "utf8"));
    if (typeof checked === "string") return { missing: `The file ${shown} ${checked}.` };
    return { path, signature, secret: checked, reported: "" };
  } catch (error) {
    return { missing: `The file ${shown} ${reasonOf(error)}.` };
  }
}

/** Looks whether a file has changed, and takes its new value if that is one. */
async function lookAgain(file: SecretFile, warn: WarnOfSecret): Promise<void> {
  let wrong: string;
  try {
    const before = signatureOf(await stat(file.path, { bigint: true }));
    if (before === file.signature) {
      file.reported = "";
      return;
    }
    if (typeof before === "object") wrong = before.wrong;
    else {
      const checked = checkSecret(await readFile(file.path, "utf8"));
      const after = signatureOf(await stat(file.path, { bigint: true }));
      // Someone is writing: what was read may be half of it. The next look finds the rest.
      if (after !== before) return;
      if (checked instanceof Secret) {
        file.secret = checked;
        file.signature = before;
        file.reported = "";
        return;
      }
      wrong = checked;
    }
  } catch (error) {
    wrong = reasonOf(error);
  }
  if (file.reported === wrong) return;
  file.reported = wrong;
  warn(`The file of a secret ${wrong}. Its last value stays in use.`, { file: file.path });
}

interface FileFacts {
  isFile(): boolean;
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

/** What changes whenever a file does; or what is wrong with it. Links are followed, so that a swapped link is a change too. */
function signatureOf(facts: FileFacts): string | { readonly wrong: string } {
  if (!facts.isFile()) return { wrong: "is not a file" };
  if (facts.size > bytesMax) return { wrong: `is larger than ${bytesMax} bytes` };
  return `${facts.dev} ${facts.ino} ${facts.size} ${facts.mtimeNs} ${facts.ctimeNs}`;
}

/** A value as a secret; or what is wrong with it, as the end of a sentence. */
function checkSecret(value: string): Secret | string {
  const trimmed = value.trimEnd();
  if (trimmed === "") return "is empty";
  // What a header can hold (RFC 9110, section 5.5). A line end inside would begin another header.
  if (!/^[\x20-\x7e]*$/.test(trimmed)) return "holds characters that a header cannot carry, such as a line end in its middle";
  return new Secret(trimmed);
}

/** Why a file could not be read, as the end of a sentence. The system's own words would repeat the path. */
function reasonOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
      return "does not exist";
    case "EACCES":
    case "EPERM":
      return "may not be read by this process";
    case "ERR_INVALID_ARG_VALUE":
      return "has a name that no file can have";
    default:
      return `cannot be read${code === "" ? "" : ` (${code})`}`;
  }
}
