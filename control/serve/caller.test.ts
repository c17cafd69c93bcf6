import { Code, createClient, createContextValues, createRouterTransport, type Interceptor } from "@connectrpc/connect";
import { beforeEach, expect, test } from "vitest";
import { MeshService } from "../../proto/gen/outrigger/mesh/v1/mesh_service_pb.ts";
import { PolicyService } from "../../proto/gen/outrigger/policy/v1/policy_service_pb.ts";
import { SidecarService } from "../../proto/gen/outrigger/policy/v1/sidecar_service_pb.ts";
import { ManualClock } from "../../test/kit/clock.ts";
import { toldFault } from "../../test/kit/rpc.ts";
import { authenticate, callerKey } from "./caller.ts";
import { peerKey } from "./listener.ts";
import type { Tokens } from "./tokens.ts";

const tokens: Tokens = {
  find: async (token) => {
    if (token === "editor" || token === "reader") return { name: `the ${token}`, role: token };
    return token === "old" ? "expired" : undefined;
  },
};

let clock: ManualClock;
let address: string;
let callers: (string | undefined)[];
let transport: ReturnType<typeof createRouterTransport>;

beforeEach(() => {
  clock = new ManualClock();
  address = "10.0.0.1";
  callers = [];
  const fromAddress: Interceptor = (next) => (request) => {
    request.contextValues.set(peerKey, { address, certificate: () => undefined });
    return next(request);
  };
  transport = createRouterTransport(
    (router) => {
      router.service(PolicyService, {
        listResources: (_request, { values }) => {
          callers.push(values.get(callerKey)?.name);
          return {};
        },
        applyResources: () => ({}),
        deleteResource: () => ({}),
        rollBack: () => ({}),
        async *watchResources() {
          yield {};
        },
      });
      router.service(SidecarService, { listSidecars: () => ({}), createJoinToken: () => ({}), endRollout: () => ({}) });
      router.service(MeshService, { join: () => ({}) });
    },
    { router: { interceptors: [fromAddress, authenticate(tokens, clock, "ask for one")] } },
  );
});

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
const policy = () => createClient(PolicyService, transport);
const sidecars = () => createClient(SidecarService, transport);

test("readers read and plan, editors change, and handlers know who calls", async () => {
  await policy().listResources({}, bearer("reader"));
  await policy().listResources({}, { ...bearer("editor"), contextValues: createContextValues() });
  expect(callers).toEqual(["the reader", "the editor"]);
  for (const validateOnly of [true, false]) {
    const calls = (token: string) => [
      () => policy().applyResources({ validateOnly }, bearer(token)),
      () => policy().deleteResource({ validateOnly }, bearer(token)),
      () => policy().rollBack({ validateOnly }, bearer(token)),
    ];
    for (const call of calls("editor")) await call();
    for (const call of calls("reader")) {
      if (validateOnly) await call();
      else
        expect(await toldFault(call())).toMatchObject({
          code: Code.PermissionDenied,
          reason: "ROLE_MISSING",
          facts: { role: "reader", needed: "editor" },
        });
    }
  }
  for await (const _ of policy().watchResources({}, bearer("reader")));
  await sidecars().listSidecars({}, bearer("reader"));
  expect(await toldFault(sidecars().createJoinToken({}, bearer("reader")))).toMatchObject({ code: Code.PermissionDenied });
  expect(await toldFault(sidecars().endRollout({}, bearer("reader")))).toMatchObject({ code: Code.PermissionDenied });
  await sidecars().createJoinToken({}, bearer("editor"));
});

test("nobody comes in without a token that is good, and sidecars see to themselves", async () => {
  const told = async (headers: Record<string, string>) => (await toldFault(policy().listResources({}, { headers }))).reason;
  expect(await told({})).toBe("CREDENTIAL_MISSING");
  expect(await told({ authorization: "editor" })).toBe("CREDENTIAL_MISSING");
  expect(await told({ authorization: "Basic editor" })).toBe("CREDENTIAL_MISSING");
  expect(await told({ authorization: "Bearer guess" })).toBe("CREDENTIAL_UNKNOWN");
  expect(await told({ authorization: "Bearer old" })).toBe("CREDENTIAL_EXPIRED");
  await policy().listResources({}, { headers: { authorization: "bearer  editor " } });
  await createClient(MeshService, transport).join({});
});

test("bad tokens from one address have to wait, good ones and other addresses never do", async () => {
  const guess = () => toldFault(policy().listResources({}, bearer("guess")));
  for (let attempt = 0; attempt < 20; attempt++) expect((await guess()).reason).toBe("CREDENTIAL_UNKNOWN");
  expect(await guess()).toMatchObject({ code: Code.ResourceExhausted, reason: "ATTEMPTS_SPENT", retryAfterMs: 6_000 });
  await policy().listResources({}, bearer("editor"));
  address = "10.0.0.2";
  expect((await guess()).reason).toBe("CREDENTIAL_UNKNOWN");
  address = "10.0.0.1";
  clock.advance(5_999);
  expect((await guess()).reason).toBe("ATTEMPTS_SPENT");
  clock.advance(1);
  // Asking too early costs nothing: it is due as long after the last one that counted.
  expect((await guess()).reason).toBe("CREDENTIAL_UNKNOWN");
  expect((await guess()).reason).toBe("ATTEMPTS_SPENT");
});
