import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ConsumerSchema } from "../../proto/gen/outrigger/policy/v1/consumer_pb.ts";
import { ModelRouteSchema } from "../../proto/gen/outrigger/policy/v1/model_route_pb.ts";
import type { Resources } from "../../proto/resources.ts";
import type { IdentityFinder } from "../../sidecar/policy/compile.ts";

/** Resources with only what a test names. */
export function resourcesOf(some: Partial<Resources>): Resources {
  return { providers: [], routes: [], consumers: [], priceBooks: [], grants: [], ...some };
}

/** A route of the default namespace. */
export function routeOf(name: string, spec: MessageInitShape<typeof ModelRouteSchema>["spec"], namespace = "") {
  return create(ModelRouteSchema, { apiVersion: "outrigger.dev/v1alpha1", kind: "ModelRoute", metadata: { name, namespace }, spec });
}

/** A consumer of the default namespace. */
export function consumerOf(name: string, spec: MessageInitShape<typeof ConsumerSchema>["spec"], namespace = "") {
  return create(ConsumerSchema, { apiVersion: "outrigger.dev/v1alpha1", kind: "Consumer", metadata: { name, namespace }, spec });
}

const none = { missing: "this test has no identities" };

/** For tests whose providers have no credential by identity. */
export const noIdentities: IdentityFinder = { aws: () => none, google: () => none, entra: () => none };
