/**
 * What many targets make of one request, side by side: policy is compiled, and what it would send is caught at the wire. Targets whose
 * body and reports are alike are shown once.
 */
import { expect } from "vitest";
import type { AnyRequest } from "../../proto/chat.ts";
import { Fault } from "../../proto/fault.ts";
import { readResources } from "../../proto/resources.ts";
import { newNotes, type Policy, Secret, type UpstreamRequest } from "../../sidecar/call.ts";
import { compilePolicy } from "../../sidecar/policy/compile.ts";
import { batchesOf, makeCall } from "./call.ts";
import { ManualClock } from "./clock.ts";
import { noIdentities } from "./policy.ts";
import { pretty } from "./prettyJson.ts";

/** A model at a provider. */
export interface Target {
  /** What it is called, such as a section of a golden case. */
  readonly name: string;
  /** The provider's spec, but for its credential. */
  readonly spec: string;
  readonly model: string;
}

/** What a call asks beside its request. */
export interface Asked {
  readonly streaming?: boolean;
  readonly countOnly?: boolean;
}

/**
 * Makes what tells of every target, by its name, what it makes of a request. What is refused is told with its sentence, and then as it is
 * sent where a route lets unsupported parameters be left out. The model of the request does not matter. `as X` stands where all is as at X.
 */
export function compileTargets(targets: readonly Target[]): (request: AnyRequest, asked?: Asked) => Promise<Map<string, string>> {
  const sent: UpstreamRequest[] = [];
  const policies = { reject: compiled(targets, "reject", sent), drop: compiled(targets, "drop", sent) };

  /** What a target makes of a request: its path and what else is to be seen, or the sentence with which it is refused. */
  async function wireOf(index: number, given: AnyRequest, asked: Asked, way: "reject" | "drop"): Promise<Wire | string> {
    const request = { ...given, model: `t${index}` };
    const warnings: string[] = [];
    try {
      for (const batch of await batchesOf(
        policies[way].answer(makeCall({ request, streaming: false, ...asked, validateOnly: true, notes: newNotes(true) })),
      )) {
        for (const { event } of batch) {
          if (event.case === "warning") warnings.push(`${event.value.code} ${event.value.field}: ${event.value.message}`);
        }
      }
    } catch (caught) {
      if (caught instanceof Fault) return `refused: ${caught.kind.name} ${caught.field}: ${caught.message}`;
      throw caught;
    }
    sent.length = 0;
    const answer = batchesOf(policies[way].answer(makeCall({ request, streaming: false, ...asked })));
    await expect(answer).rejects.toThrow("could not be reached");
    const [wire] = sent;
    if (wire === undefined) throw new Error("nothing was sent and nothing was refused");
    JSON.parse(String(wire.body));
    // Pieces of one call go to one path.
    const bodies = sent.map(({ body }) => pretty(String(body)));
    return { path: wire.path, text: [...bodies, ...warnings].join("\n") };
  }

  return async function sideBySide(request, asked = {}) {
    const came = new Map<string, string>();
    const known = new Map<string, string>();
    for (const [index, { name, model }] of targets.entries()) {
      const rejected = await wireOf(index, request, asked, "reject");
      const wires = typeof rejected === "string" ? [rejected, await wireOf(index, request, asked, "drop")] : [rejected];
      const paths = wires.flatMap((wire) => (typeof wire === "string" ? [] : [wire.path]));
      // A case that is refused even so would be shown twice with one sentence.
      const texts = [...new Set(wires.map((wire) => (typeof wire === "string" ? wire : wire.text)))];
      const text = texts.join("\n\nwith what it does not take left out:\n");
      const alike = text.replaceAll(model, "MODEL");
      const other = known.get(alike);
      if (other === undefined) known.set(alike, name);
      came.set(name, [model, ...paths, other === undefined ? text : `as ${other}`].join("\n"));
    }
    return came;
  };
}

interface Wire {
  readonly path: string;
  readonly text: string;
}

/** A policy with a route to each target, by the target's number. */
function compiled(targets: readonly Target[], unsupportedParams: "reject" | "drop", sent: UpstreamRequest[]): Policy {
  const head = "apiVersion: outrigger.dev/v1alpha1, kind:";
  const documents = targets.flatMap(({ spec, model }, index) => [
    `{${head} Provider, metadata: {name: t${index}}, spec: {${spec}, credential: {header: {secret: {env: KEY}}}}}`,
    `{${head} ModelRoute, metadata: {name: t${index}}, spec: {match: {models: [t${index}]}, unsupported_params: ${unsupportedParams},
      targets: [{provider: t${index}, model: "${model}"}]}}`,
  ]);
  documents.push(`{${head} Consumer, metadata: {name: anyone}, spec: {identities: [{anonymous: {}}]}}`);
  const read = readResources([{ path: "policy.yaml", text: documents.join("\n---\n") }]);
  if (read.problems.length > 0) throw new Error(JSON.stringify(read.problems));
  const { policy, problems } = compilePolicy(read.resources, "root", {
    clock: new ManualClock(),
    random: { next: () => 0, id: () => "id" },
    upstream(request, handler) {
      sent.push(request);
      handler.error(new Error("this test has no network"), false);
      return { pause() {}, resume() {}, abort() {} };
    },
    sha256: (text) => text,
    secret: () => ({ read: () => new Secret("s3cret") }),
    identities: noIdentities,
    signer: () => () => [],
    shed: (call, next) => next(call),
    recall: (call, next) => next(call),
    write: () => {},
    refused: () => {},
  });
  if (policy === undefined) throw new Error(JSON.stringify(problems));
  return policy;
}
