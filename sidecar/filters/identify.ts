/** Who calls: finds the consumer that holds the credential which the caller showed. */
import { Fault, FaultReason } from "../../proto/fault.ts";
import type { Resources } from "../../proto/resources.ts";
import type { Call, CallConsumer, Filter, Secret } from "../call.ts";

/** What `compileIdentify` makes. */
export interface Identify {
  readonly filter: Filter;
  /** The consumer that holds a credential. Throws a fault with reason `CREDENTIAL_INVALID` if there is none. */
  consumerOf(credential: Secret | undefined): CallConsumer;
}

/**
 * Compiles the consumers. `sha256` gives 64 hexadecimal digits: policy knows keys by their hash alone, and looking a hash up in a
 * table tells a guesser nothing about how near a guess was. `refused` hears of strangers, whom `record` never meets.
 */
export function compileIdentify(
  resources: Resources,
  sha256: (text: string) => string,
  refused: (call: Call, fault: Fault) => void,
): Identify {
  const byKeyHash = new Map<string, CallConsumer>();
  let anonymous: CallConsumer | undefined;
  for (const { metadata, spec } of resources.consumers) {
    const consumer: CallConsumer = Object.freeze({
      namespace: metadata?.namespace || "default",
      name: metadata?.name ?? "",
      team: spec?.team ?? "",
      routes: new Set(spec?.routes),
    });
    for (const { kind } of spec?.identities ?? []) {
      if (kind.case === "apiKey") byKeyHash.set(kind.value.sha256, consumer);
      if (kind.case === "anonymous") anonymous = consumer;
    }
  }

  function consumerOf(credential: Secret | undefined): CallConsumer {
    const known = credential === undefined ? undefined : byKeyHash.get(sha256(credential.reveal()));
    const consumer = known ?? anonymous;
    if (consumer !== undefined) return consumer;
    throw new Fault(
      FaultReason.CREDENTIAL_INVALID,
      credential === undefined
        ? "No API key was given. Send one as 'authorization: Bearer KEY' or as 'x-api-key: KEY'."
        : "No consumer has this API key. Check the key, or ask your platform team for one.",
    );
  }

  return {
    consumerOf,
    filter: function identify(call, next) {
      let consumer: CallConsumer;
      try {
        consumer = consumerOf(call.credential);
      } catch (fault) {
        if (fault instanceof Fault) refused(call, fault);
        throw fault;
      }
      call.notes.consumer = consumer.name;
      call.notes.team = consumer.team;
      call.notes.decisions?.push({
        filter: "identify",
        outcome: `the caller is consumer ${consumer.name}`,
        facts: { consumer: consumer.name, namespace: consumer.namespace, team: consumer.team },
      });
      return next({ ...call, consumer });
    },
  };
}
