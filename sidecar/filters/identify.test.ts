import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { Fault, FaultReason } from "../../proto/fault.ts";
import { answerOf, makeCall } from "../../test/kit/call.ts";
import { consumerOf, resourcesOf } from "../../test/kit/policy.ts";
import { type Call, Secret } from "../call.ts";
import { compileIdentify } from "./identify.ts";

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
const keyed = consumerOf("shop", { team: "sales", identities: [{ kind: { case: "apiKey", value: { sha256: sha256("key-1") } } }] });
const anyone = consumerOf("anyone", { identities: [{ kind: { case: "anonymous", value: {} } }] });

function identified(consumers: (typeof keyed)[], credential: string | undefined) {
  const refused: string[] = [];
  const reached: Call[] = [];
  const { filter } = compileIdentify(resourcesOf({ consumers }), sha256, (call, fault) => refused.push(`${call.id} ${fault.kind.name}`));
  const call = makeCall({ credential: credential === undefined ? undefined : new Secret(credential) });
  const run = () => {
    filter(call, (next) => {
      reached.push(next);
      return answerOf();
    });
    return reached[0]?.consumer?.name;
  };
  return { run, refused, call };
}

describe("identify", () => {
  it("knows a consumer by the hash of its key", () => {
    const { run, call } = identified([keyed, anyone], "key-1");
    expect(run()).toBe("shop");
    expect(call.notes).toMatchObject({ consumer: "shop", team: "sales" });
  });

  it("takes a stranger as the anonymous consumer where policy has one", () => {
    expect(identified([keyed, anyone], "wrong").run()).toBe("anyone");
    expect(identified([keyed, anyone], undefined).run()).toBe("anyone");
  });

  it("refuses a stranger otherwise, and says so to the records", () => {
    for (const credential of ["wrong", undefined]) {
      const { run, refused } = identified([keyed], credential);
      expect(run).toThrow(Fault);
      expect(refused).toEqual(["call-1 CREDENTIAL_INVALID"]);
    }
  });

  it("never shows the key", () => {
    try {
      identified([keyed], "key-canary").run();
      expect.unreachable();
    } catch (caught) {
      expect(caught).toMatchObject({ reason: FaultReason.CREDENTIAL_INVALID });
      expect(JSON.stringify(caught) + String(caught)).not.toContain("canary");
    }
  });
});
