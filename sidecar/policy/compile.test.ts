import { describe, expect, it } from "vitest";
import { readResources } from "../../proto/resources.ts";
import { batchesOf, makeCall } from "../../test/kit/call.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { Secret, type UpstreamRequest } from "../call.ts";
import { compilePolicy } from "./compile.ts";

const consumer = "{apiVersion: outrigger.dev/v1alpha1, kind: Consumer, metadata: {name: anyone}, spec: {identities: [{anonymous: {}}]}}";
const route = `{apiVersion: outrigger.dev/v1alpha1, kind: ModelRoute, metadata: {name: r},
  spec: {match: {models: [m]}, targets: [{provider: p}]}}`;

/** Compiles a policy with one provider, whose spec is given; returns what it would send, or the problems. */
async function compiled(spec: string) {
  const provider = `{apiVersion: outrigger.dev/v1alpha1, kind: Provider, metadata: {name: p}, spec: ${spec}}`;
  const read = readResources([{ path: "policy.yaml", text: [provider, route, consumer].join("\n---\n") }]);
  expect(read.problems).toEqual([]);
  const sent: UpstreamRequest[] = [];
  const { policy, problems } = compilePolicy(read.resources, "root", {
    clock: new ManualClock(),
    random: { next: () => 0, id: () => "id" },
    upstream(request, handler) {
      sent.push(request);
      handler.error(new Error("this test has no network"), false);
      return { pause() {}, resume() {}, abort() {} };
    },
    sha256: (text) => text,
    secret: (reference) => (reference.source.value === "THERE" ? { read: () => new Secret("s3cret") } : { missing: "it is not set" }),
    shed: (call, next) => next(call),
    write: () => {},
    refused: () => {},
  });
  if (policy === undefined) return { problems: problems.map(({ field, message }) => `${field}: ${message}`) };
  await expect(batchesOf(policy.answer(makeCall({ request: { ...makeCall().request, model: "m" } })))).rejects.toThrow(
    "could not be reached",
  );
  return { request: sent[0] };
}

describe("compilePolicy", () => {
  it("takes address, header and properties from the provider's row", async () => {
    const { request } = await compiled("{openai: {}, credential: {header: {secret: {env: THERE}}}}");
    expect(request).toMatchObject({
      origin: "https://api.openai.com",
      path: "/v1/chat/completions",
      connectTimeoutMs: 3000,
      connections: 256,
    });
    expect(request?.headers.slice(-2)).toEqual(["authorization", "Bearer s3cret"]);
  });

  it("lets policy override the row", async () => {
    const { request } = await compiled(`{anthropic: {}, endpoint: "http://10.0.0.1:8080/proxy/",
      credential: {header: {name: api-key, secret: {env: THERE}}}, headers: {x-team: blue},
      timeouts: {connect: 0.5s}, limits: {connections: 7}}`);
    expect(request).toMatchObject({ origin: "http://10.0.0.1:8080", path: "/proxy/v1/messages", connectTimeoutMs: 500, connections: 7 });
    expect(request?.headers.slice(-4)).toEqual(["x-team", "blue", "api-key", "s3cret"]);
  });

  it.each([
    ["{openai: {row: unheard-of}}", 'spec.openai.row: no row "unheard-of" speaks this dialect; known rows: openai,'],
    ["{openai: {row: anthropic}}", 'spec.openai.row: no row "anthropic" speaks this dialect'],
    ["{openai: {row: compatible}}", "spec.endpoint: this provider's row has no address of its own"],
    ["{openai: {}, credential: {header: {secret: {env: NOT_THERE}}}}", "spec.credential.header.secret: it is not set"],
  ])("refuses %s whole", async (spec, problem) => {
    expect((await compiled(spec)).problems).toEqual([expect.stringContaining(problem)]);
  });
});
