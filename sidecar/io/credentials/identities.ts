/**
 * Credentials by identity: what keeps the tokens and keys of the policy that runs fresh, one source for each provider.
 *
 * A policy gathers what it uses while it is made, and keeps it once it is whole: then sources that are new begin, those that it shares with
 * the policy before go on as they are, and the others rest. Calls that began under the policy before still get what they need.
 */
import { createHash } from "node:crypto";
import { type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { AwsCredentialSchema, EntraCredentialSchema, GoogleCredentialSchema } from "../../../proto/gen/outrigger/policy/v1/provider_pb.ts";
import type { Clock, Random, Upstream } from "../../call.ts";
import type { IdentityFinder, IdentitySource } from "../../policy/compile.ts";
import { type Ask, asker } from "./ask.ts";
import { awsKeys } from "./aws.ts";
import { entraToken } from "./entra.ts";
import { CredentialFailure } from "./failure.ts";
import { googleToken } from "./google.ts";
import type { Environment } from "./place.ts";
import { type Fetch, type TokenSource, tokenSource } from "./tokenSource.ts";

/** Identities of one sidecar. */
export interface Identities {
  /** Begins to gather what a policy uses. */
  gather(): Gathering;
  /** Ends everything: no timer and no question is left. */
  close(): void;
}

/** What one policy uses. */
export interface Gathering extends IdentityFinder {
  /** The policy is whole and will run: what was found begins or goes on, and everything else rests. */
  keep(): void;
}

/** What identities need. */
export interface IdentityParts {
  readonly environment: Environment;
  readonly upstream: Upstream;
  readonly clock: Clock;
  readonly random: Random;
  readonly warn: (message: string, facts: Readonly<Record<string, string>>) => void;
}

/** A source that outlives the policy for which it was made. */
interface Kept<Value = unknown> extends TokenSource<Value> {
  /** From now on fetches in this way. */
  obtainBy(obtain: Fetch<Value>): void;
}

/** Makes what finds identities. Nothing runs until a policy keeps some. */
export function openIdentities(parts: IdentityParts): Identities {
  const { environment, clock, random } = parts;
  const ask: Ask = asker(parts.upstream, clock);
  let kept: ReadonlyMap<string, Kept> = new Map();
  const stopping = new AbortController();

  function follow<Value>(first: Fetch<Value>, provider: string): Kept<Value> {
    let latest = first;
    const source = tokenSource<Value>((signal) => latest(signal), { ...parts, provider: nameIn(provider), stopping: stopping.signal });
    return {
      ...source,
      obtainBy(obtain) {
        latest = obtain;
      },
    };
  }

  return {
    gather() {
      const found = new Map<string, Kept>();
      const adoptions: (() => void)[] = [];

      /** The source for a provider's credential as it is written: the one that runs already if it is the same. */
      function sourceFor<Value, Desc extends DescMessage>(
        provider: string,
        desc: Desc,
        credential: MessageShape<Desc>,
        also: string,
        make: () => Fetch<Value>,
      ): IdentitySource<Value> {
        const written = createHash("sha256").update(toBinary(desc, credential)).update(also).digest("hex");
        const key = `${provider} ${desc.typeName} ${written}`;
        try {
          // Made even if there is one: what is wrong with the environment now is told now.
          const obtain = make();
          const running = kept.get(key) as Kept<Value> | undefined;
          const source = running ?? follow(obtain, provider);
          // What was compiled anew may read a secret from elsewhere, though it is written as before.
          adoptions.push(() => source.obtainBy(obtain));
          found.set(key, source);
          return { identity: source };
        } catch (error) {
          if (error instanceof CredentialFailure) return { missing: error.message };
          throw error;
        }
      }

      return {
        aws: (provider, credential, region, ownKey) =>
          sourceFor(provider, AwsCredentialSchema, credential, region, () =>
            awsKeys(credential, region, ownKey, { ask, clock, environment }),
          ),
        google: (provider, credential) =>
          sourceFor(provider, GoogleCredentialSchema, credential, "", () => googleToken(credential, { ask, clock, environment })),
        entra: (provider, credential, scope, secret) =>
          sourceFor(provider, EntraCredentialSchema, credential, scope, () =>
            entraToken(credential, scope, secret, { ask, clock, random, environment }),
          ),
        keep() {
          if (stopping.signal.aborted) return;
          for (const [key, source] of kept) if (!found.has(key)) source.rest();
          for (const adopt of adoptions) adopt();
          for (const source of found.values()) source.start();
          kept = found;
        },
      };
    },
    close() {
      stopping.abort();
      for (const source of kept.values()) source.rest();
      kept = new Map();
    },
  };
}

/** The name in a full name, which is `namespace/name`: faults and the log say no more elsewhere. */
function nameIn(fullName: string): string {
  return fullName.slice(fullName.indexOf("/") + 1);
}
