/**
 * A real sidecar without its doors: what `outrigger sidecar` runs towards control, many times in one process. It dials with the product's
 * own client, believes only what is signed for its scope, holds every resource against its rules, compiles the policy, swaps it in, keeps it
 * in two slots of a folder of its own, and acknowledges. Only what sidecars of one process may share is shared: the rules and the way
 * out.
 */
import { hash, randomUUID } from "node:crypto";
import { join } from "node:path";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { capabilityLevel } from "../../../../proto/capability.ts";
import { listResources } from "../../../../proto/resources/kinds.ts";
import { joinFiles, makeRules, readMessage } from "../../../../proto/resources.ts";
import { recall } from "../../../../sidecar/filters/recall.ts";
import { shed } from "../../../../sidecar/filters/shed.ts";
import { systemClock } from "../../../../sidecar/io/clock.ts";
import { dialControl, endOf, fetchAuthority, joinControl } from "../../../../sidecar/io/control.ts";
import { openIdentities } from "../../../../sidecar/io/credentials/identities.ts";
import { gunzip, makeOwnKey, makeSealKey, verifySignature } from "../../../../sidecar/io/keys.ts";
import { systemRandom } from "../../../../sidecar/io/random.ts";
import { openSecrets } from "../../../../sidecar/io/secrets.ts";
import { signer } from "../../../../sidecar/io/sign.ts";
import { openStateFolder } from "../../../../sidecar/io/stateFolder.ts";
import { openUpstream } from "../../../../sidecar/io/upstream.ts";
import type { Dial } from "../../../../sidecar/mesh/link.ts";
import { prepareRemote } from "../../../../sidecar/mesh/remote.ts";
import { meshSource } from "../../../../sidecar/mesh/source.ts";
import { openTally } from "../../../../sidecar/mesh/tally.ts";
import { compilePolicy } from "../../../../sidecar/policy/compile.ts";
import { findForeign } from "../../../../sidecar/policy/understand.ts";
import { watchPolicy } from "../../../../sidecar/policy/watch.ts";
import { SealedTurns } from "../../../../sidecar/sealedTurns.ts";
import type { BenchSidecar, Happened } from "./sidecar.ts";

/** What sidecars of one process share. */
export type RealHouse = ReturnType<typeof openRealHouse>;

/** Makes what is shared. */
export function openRealHouse() {
  return { rules: makeRules(), upstream: openUpstream(), random: systemRandom() };
}

/** Makes a real sidecar that dials when it is started. It keeps its policy under `folder`. */
export function realSidecar(
  house: RealHouse,
  { instance, account, token, port, folder }: Record<"instance" | "account" | "token" | "folder", string> & { readonly port: number },
  tell: (what: Happened) => void,
): BenchSidecar {
  const { rules, upstream, random } = house;
  const clock = systemClock;
  const sha256 = (data: Uint8Array | string): string => hash("sha256", data, "hex");
  const warn = (): void => undefined;
  const secrets = openSecrets({}, clock, warn, true);
  const identities = openIdentities({ environment: {}, upstream: upstream.send, clock, random, warn });
  const tally = openTally();
  const policies = watchPolicy({
    compile(resources, root) {
      const problems = findForeign(resources, capabilityLevel);
      if (problems.length > 0) return { policy: undefined, problems };
      const gathering = identities.gather();
      const compiled = compilePolicy(resources, root, {
        upstream: upstream.send,
        clock,
        random,
        sha256,
        secret: secrets.find,
        identities: gathering,
        signer: (scope, key) => signer(scope, key, clock),
        shed: shed({ callsMax: 1_000, saturated: () => false }, clock),
        recall: recall(new SealedTurns({ bytesMax: 1_000_000, turnsMax: 1_000, idleMs: 60_000 }, clock), sha256),
        write: tally.count,
        refused: () => undefined,
      });
      if (compiled.policy !== undefined) gathering.keep();
      return compiled;
    },
    clock,
    told: () => undefined,
  });
  let last = "";
  /** The product's way to control, with an ear at what is acknowledged. */
  const listening = (dial: Dial): Dial => {
    return (events) => {
      tell({ is: "dialled" });
      const link = dial({
        received: events.received,
        ended(end) {
          tell({ is: "lost" });
          events.ended(end);
        },
      });
      return {
        ...link,
        send(request) {
          if (request.message.case === "ack") {
            const { root } = request.message.value;
            tell({ is: "acked", resumed: root === last });
            last = root;
          }
          link.send(request);
        },
      };
    };
  };
  const source = meshSource({
    prepare: async (desk) =>
      prepareRemote(
        {
          url: `http://127.0.0.1:${port}`,
          joinToken: token,
          namespace: "default",
          account,
          instance,
          bootGraceMs: 5_000,
          maxStaleMs: 86_400_000,
        },
        {
          disk: await openStateFolder(join(folder, instance)),
          verify: verifySignature,
          sha256,
          digest: (data) => new Uint8Array(hash("sha256", data, "buffer")),
          gunzip,
          sealKey: makeSealKey,
          makeKey: makeOwnKey,
          drawName: randomUUID,
          decode: (text) => Buffer.from(text, "base64url").toString("utf8"),
          readToken: () => "",
          readAuthority: () => undefined,
          fetchAuthority,
          ask: ({ url }, request) => joinControl({ url, authority: undefined, own: undefined }, request),
          dial: (address) => listening(dialControl(() => ({ url: address().url, authority: undefined, own: undefined }))),
          endOf,
          check: (resources) => joinFiles(listResources(resources).map((resource) => readMessage(resource, rules))).problems,
        },
        desk,
      ),
    prompt: false,
    delivers: true,
  });
  return {
    start() {
      source.subscribe(policies.offer, {
        clock,
        random,
        version: "bench",
        capabilityLevel,
        trial: policies.trial,
        health: () => ({ ...tally.take(), loopDelayMax: durationFromMs(0) }),
        deliver: secrets.deliver,
        watchMesh: () => undefined,
        note: () => undefined,
      });
    },
    stick: undefined,
  };
}
